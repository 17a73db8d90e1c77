-- What did each project use of each flavor and type?
-- A resource counts for the flavor, size and project that it had at the time, to the microsecond: a resized instance is in two rows.
-- What events do not tell of counts as long as audits or polls confirm it: until the end of the audit period, or of the hour of the last sample.
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
        flavor,
        vcpus,
        memory_mib,
        size_gib,
        epoch_us(CASE WHEN started_at > :start THEN started_at ELSE :start END) AS start_us,
        CASE
            WHEN ended_at < :end THEN epoch_us(ended_at)
            WHEN ended_at IS NOT NULL OR confirmed_by LIKE '%events%' THEN epoch_us(:end)
            WHEN confirmed_by = 'audits' THEN epoch_us(confirmed_until)
            ELSE epoch_us(confirmed_until) / 3600000000 * 3600000000 + 3600000000
        END AS until_us
    FROM resource_periods
    WHERE started_at < :end AND (ended_at > :start OR ended_at IS NULL) AND source <> 'meterhouse-verify'
),
existed AS (
    SELECT
        resource_type,
        resource_id,
        project_id,
        flavor,
        vcpus,
        memory_mib,
        size_gib,
        CASE WHEN until_us < epoch_us(:end) THEN until_us ELSE epoch_us(:end) END - start_us AS us
    FROM known
    WHERE until_us > start_us
),
summed AS (
    SELECT
        project_id,
        resource_type,
        flavor,
        count(DISTINCT resource_id) AS resources,
        sum(us) / 3.6e9 AS hours,
        coalesce(sum(vcpus * us), 0.0) / 3.6e9 AS vcpu_hours,
        coalesce(sum(memory_mib * us), 0.0) / 1024.0 / 3.6e9 AS memory_gib_hours,
        coalesce(sum(size_gib * us), 0.0) / 3.6e9 AS gib_hours
    FROM existed
    GROUP BY project_id, resource_type, flavor
)
SELECT
    s.project_id AS project_id,
    n.name AS project_name,
    s.resource_type AS resource_type,
    s.flavor AS flavor,
    s.resources AS resources,
    s.hours AS hours,
    s.vcpu_hours AS vcpu_hours,
    s.memory_gib_hours AS memory_gib_hours,
    s.gib_hours AS gib_hours
FROM summed AS s
LEFT JOIN names AS n ON n.id = s.project_id
ORDER BY s.project_id, s.resource_type, s.flavor
