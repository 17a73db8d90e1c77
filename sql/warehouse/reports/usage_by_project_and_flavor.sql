-- What did each project use of each flavor and type?
-- A resource counts for the flavor, size and project that it had at the time, to the microsecond: a resized instance is in two rows.
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
        flavor,
        vcpus,
        memory_mib,
        size_gib,
        epoch_us(CASE WHEN started_at > :start THEN started_at ELSE :start END) AS start_us,
        epoch_us(CASE WHEN counted_until < :end THEN counted_until ELSE :end END) AS end_us
    FROM counted_periods
    WHERE started_at < :end AND (ended_at > :start OR ended_at IS NULL)
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
        end_us - start_us AS us
    FROM known
    WHERE end_us > start_us
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
ORDER BY byte_order(s.project_id) NULLS LAST, byte_order(s.resource_type), byte_order(s.flavor) NULLS LAST
