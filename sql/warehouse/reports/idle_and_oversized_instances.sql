-- Which instances do little, or are larger than they need to be?
-- cpu_share is the CPU time that an instance used, of all that its vCPUs had while it existed; memory_share the most memory that it used, of what it has.
-- idle: less than 2 % of the CPU. oversized: less than 20 % of the CPU, and less than half of the memory if that is known.
-- Whole days (UTC) of the span count. Instances that have no samples of cpu are left out: nothing is known of what they do.
-- partition: month
WITH names AS MATERIALIZED (
    SELECT id, name
    FROM name_history
    WHERE kind = 'project' AND valid_from < :end AND (valid_to >= :end OR valid_to IS NULL)
),
stretches AS MATERIALIZED (
    SELECT
        resource_id,
        started_at,
        vcpus,
        epoch_us(CASE WHEN counted_until < :days_to THEN counted_until ELSE :days_to END)
        - epoch_us(CASE WHEN started_at > :days_from THEN started_at ELSE :days_from END) AS us
    FROM counted_periods
    WHERE resource_type || '' = 'instance' AND vcpus > 0  -- || '': SQLite would read those of all times
    AND started_at < :days_to AND (ended_at > :days_from OR ended_at IS NULL)
),
existed AS MATERIALIZED (
    SELECT
        resource_id,
        max(started_at) AS newest,
        sum(vcpus * us) AS vcpu_us,
        sum(us) AS us
    FROM stretches
    WHERE us > 0
    GROUP BY resource_id
),
by_series AS (
    SELECT s.series_id AS series_id, sum(r.increase) AS cpu_ns
    FROM series AS s
    CROSS JOIN rollup_1d AS r
    WHERE s.meter = 'cpu' AND s.type = 'cumulative' AND coalesce(s.unit, 'ns') = 'ns'
    AND s.source <> 'meterhouse-verify' AND s.last_point_at >= :days_from AND s.first_point_at < :days_to
    AND r.series_id = s.series_id AND r.bucket >= :days_from AND r.bucket < :days_to AND r.increase IS NOT NULL
    GROUP BY s.series_id
),
busy AS (
    SELECT s.resource_id AS resource_id, max(b.cpu_ns) AS cpu_ns
    FROM by_series AS b
    CROSS JOIN series AS s
    WHERE s.series_id = b.series_id
    GROUP BY s.resource_id
),
quiet AS MATERIALIZED (
    SELECT e.resource_id AS resource_id, e.newest AS newest, e.us AS us, e.vcpu_us AS vcpu_us, b.cpu_ns / 1000.0 / e.vcpu_us AS cpu_share
    FROM existed AS e
    JOIN busy AS b ON b.resource_id = e.resource_id
    WHERE b.cpu_ns / 1000.0 < 0.2 * e.vcpu_us
),
measured AS MATERIALIZED (
    SELECT
        q.resource_id AS resource_id,
        q.newest AS newest,
        q.us AS us,
        q.vcpu_us AS vcpu_us,
        q.cpu_share AS cpu_share,
        (
            SELECT max(r.max)
            FROM series AS s
            CROSS JOIN rollup_1d AS r
            WHERE s.resource_id = q.resource_id AND s.meter || '' = 'memory.usage' AND s.unit IN ('MiB', 'MB')
            AND s.source <> 'meterhouse-verify' AND r.series_id = s.series_id AND r.bucket >= :days_from AND r.bucket < :days_to
        ) AS memory_mib  -- meter || '': SQLite would look up the series of the meter, not those of the resource
    FROM quiet AS q
)
SELECT
    CASE WHEN q.cpu_share < 0.02 THEN 'idle' ELSE 'oversized' END AS finding,
    q.resource_id AS resource_id,
    p.name AS resource_name,
    p.project_id AS project_id,
    n.name AS project_name,
    p.flavor AS flavor,
    p.state AS state,
    p.vcpus AS vcpus,
    p.memory_mib AS memory_mib,
    q.cpu_share AS cpu_share,
    q.memory_mib / nullif(p.memory_mib, 0) AS memory_share,
    q.us / 3.6e9 AS hours,
    q.vcpu_us / 3.6e9 * (1.0 - q.cpu_share) AS unused_vcpu_hours
FROM measured AS q
CROSS JOIN resource_periods AS p
LEFT JOIN names AS n ON n.id = p.project_id
WHERE p.resource_type = 'instance' AND p.resource_id = q.resource_id AND p.started_at = q.newest
AND (q.cpu_share < 0.02 OR q.memory_mib IS NULL OR p.memory_mib IS NULL OR q.memory_mib < 0.5 * p.memory_mib)
ORDER BY q.vcpu_us * (1.0 - q.cpu_share) DESC, byte_order(q.resource_id)
