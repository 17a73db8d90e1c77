-- Which volumes and addresses does nothing use?
-- A volume is listed if its state at the end of the span is available, and an address if it is DOWN: neither is attached, and both are billed.
-- If samples alone tell of one, it counts until the end of the hour of the last one, and is not listed if that was before the span.
-- free_days is for how long this has been so. GiB-hours and hours are those of the span.
-- partition: day
WITH names AS MATERIALIZED (
    SELECT id, name
    FROM name_history
    WHERE kind = 'project' AND valid_from < :end AND (valid_to >= :end OR valid_to IS NULL)
),
free AS (
    SELECT
        resource_type,
        resource_id,
        name,
        project_id,
        flavor,
        zone,
        state,
        size_gib,
        started_at,
        epoch_us(CASE WHEN counted_until < :end THEN counted_until ELSE :end END)
        - epoch_us(CASE WHEN started_at > :start THEN started_at ELSE :start END) AS us
    FROM counted_periods
    WHERE started_at < :end AND (ended_at >= :end OR ended_at IS NULL)
    AND (
        (resource_type || '' = 'volume' AND lower(state) = 'available')  -- || '': SQLite would read those of all times
        OR (resource_type || '' = 'floating_ip' AND lower(state) IN ('down', 'error'))
    )
)
SELECT
    resource_type,
    resource_id,
    f.name AS resource_name,
    project_id,
    n.name AS project_name,
    flavor,
    zone,
    state,
    size_gib,
    started_at AS free_since_at,
    (epoch_us(:end) - epoch_us(started_at)) / 86400000000.0 AS free_days,
    us / 3.6e9 AS hours,
    size_gib * us / 3.6e9 AS gib_hours
FROM free AS f
LEFT JOIN names AS n ON n.id = f.project_id
WHERE us > 0
ORDER BY coalesce(size_gib, 0.0) * (epoch_us(:end) - epoch_us(started_at)) DESC, started_at, resource_type, byte_order(resource_id)
