-- Which projects used the most?
-- share is the part of all projects in what each kind is measured by: vCPU hours of instances, GiB hours of volumes and others with a size, hours of the rest.
-- change is against the span of the same length before: 0.5 is half as much again. It is empty if there was nothing before.
-- For each type, the first 20 projects are listed.
-- partition: month
WITH names AS MATERIALIZED (
    SELECT id, name
    FROM name_history
    WHERE kind = 'project' AND valid_from < :end AND (valid_to >= :end OR valid_to IS NULL)
),
spans AS (
    SELECT epoch_us(:start) - (epoch_us(:end) - epoch_us(:start)) AS before_us, epoch_us(:start) AS start_us, epoch_us(:end) AS end_us
),
known AS MATERIALIZED (
    SELECT
        p.resource_type AS resource_type,
        p.resource_id AS resource_id,
        p.project_id AS project_id,
        CASE
            WHEN p.resource_type = 'instance' THEN coalesce(p.vcpus, 0.0)
            WHEN p.size_gib IS NOT NULL THEN p.size_gib
            ELSE 1.0
        END AS size,
        CASE WHEN p.resource_type = 'instance' THEN 'vCPU h' WHEN p.size_gib IS NOT NULL THEN 'GiB h' ELSE 'h' END AS unit,
        epoch_us(p.started_at) AS start_us,
        CASE
            WHEN p.ended_at IS NOT NULL THEN epoch_us(p.ended_at)
            WHEN p.confirmed_by LIKE '%events%' THEN s.end_us
            WHEN p.confirmed_by = 'audits' THEN epoch_us(p.confirmed_until)
            ELSE epoch_us(p.confirmed_until) / 3600000000 * 3600000000 + 3600000000
        END AS end_us
    FROM resource_periods AS p
    CROSS JOIN spans AS s
    WHERE p.started_at < :end AND p.project_id IS NOT NULL AND p.source <> 'meterhouse-verify'
),
used AS (
    SELECT
        k.resource_type AS resource_type,
        k.resource_id AS resource_id,
        k.project_id AS project_id,
        k.unit AS unit,
        k.size * (
            CASE
                WHEN k.end_us <= s.start_us THEN 0
                ELSE
                    CASE WHEN k.end_us < s.end_us THEN k.end_us ELSE s.end_us END
                    - CASE WHEN k.start_us > s.start_us THEN k.start_us ELSE s.start_us END
            END
        ) AS used,
        k.size * (
            CASE
                WHEN k.end_us <= s.before_us OR k.start_us >= s.start_us THEN 0
                ELSE
                    CASE WHEN k.end_us < s.start_us THEN k.end_us ELSE s.start_us END
                    - CASE WHEN k.start_us > s.before_us THEN k.start_us ELSE s.before_us END
            END
        ) AS used_before
    FROM known AS k
    CROSS JOIN spans AS s
    WHERE k.end_us > s.before_us AND k.end_us > k.start_us
),
summed AS (
    SELECT
        resource_type,
        unit,
        project_id,
        count(DISTINCT CASE WHEN used > 0 THEN resource_id END) AS resources,
        sum(used) AS used,
        sum(used_before) AS used_before
    FROM used
    GROUP BY resource_type, unit, project_id
),
placed AS (
    SELECT
        resource_type,
        unit,
        project_id,
        resources,
        used,
        used_before,
        sum(used) OVER (PARTITION BY resource_type, unit) AS of_all,
        row_number() OVER (PARTITION BY resource_type, unit ORDER BY used DESC, project_id) AS place
    FROM summed
    WHERE used > 0
)
SELECT
    resource_type,
    place,
    project_id,
    n.name AS project_name,
    resources,
    used / 3.6e9 AS used,
    unit,
    used / of_all AS share,
    CASE WHEN used_before > 0 THEN used / used_before - 1.0 END AS change
FROM placed AS p
LEFT JOIN names AS n ON n.id = p.project_id
WHERE place <= 20
ORDER BY resource_type, unit, place
