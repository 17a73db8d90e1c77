-- Which projects used the most?
-- share is the part of all projects in what each kind is measured by: vCPU hours of instances, GiB hours of volumes and others with a size, hours of the rest.
-- change is against the span of the same length before: 0.5 is half as much again. It is empty if there was nothing before.
-- For each type, the first 20 projects are listed.
-- A resource counts until something told its end, in a span that is not over until now. If samples alone tell of it, it counts until the end of the hour of the last one.
-- partition: month
WITH names AS MATERIALIZED (
    SELECT id, name
    FROM name_history
    WHERE kind = 'project' AND valid_from < :end AND (valid_to >= :end OR valid_to IS NULL)
),
known AS MATERIALIZED (
    SELECT
        resource_type,
        resource_id,
        project_id,
        CASE
            WHEN resource_type = 'instance' THEN coalesce(vcpus, 0.0)
            WHEN size_gib IS NOT NULL THEN size_gib
            ELSE 1.0
        END AS size,
        CASE WHEN resource_type = 'instance' THEN 'vCPU h' WHEN size_gib IS NOT NULL THEN 'GiB h' ELSE 'h' END AS unit,
        epoch_us(CASE WHEN started_at > :before THEN started_at ELSE :before END) AS start_us,
        epoch_us(CASE WHEN counted_until < :end THEN counted_until ELSE :end END) AS end_us
    FROM counted_periods
    WHERE started_at < :end AND (ended_at > :before OR ended_at IS NULL) AND project_id IS NOT NULL
),
used AS (
    SELECT
        k.resource_type AS resource_type,
        k.resource_id AS resource_id,
        k.project_id AS project_id,
        k.unit AS unit,
        k.size * (k.end_us - CASE WHEN k.start_us > s.start_us THEN k.start_us ELSE s.start_us END) AS used,
        0.0 AS used_before
    FROM known AS k
    CROSS JOIN (SELECT epoch_us(:start) AS start_us) AS s
    WHERE k.end_us > k.start_us AND k.end_us > s.start_us
    UNION ALL
    SELECT
        k.resource_type,
        k.resource_id,
        k.project_id,
        k.unit,
        0.0,
        k.size * (CASE WHEN k.end_us < s.start_us THEN k.end_us ELSE s.start_us END - k.start_us)
    FROM known AS k
    CROSS JOIN (SELECT epoch_us(:start) AS start_us) AS s
    WHERE k.end_us > k.start_us AND k.start_us < s.start_us
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
        row_number() OVER (PARTITION BY resource_type, unit ORDER BY used DESC, byte_order(project_id)) AS place
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
ORDER BY byte_order(resource_type), byte_order(unit), place
