-- How much is in use, how fast does it grow, and how many days are left?
-- used is the mean of the last day of the span, growth_per_day the slope of a straight line through the days, by least squares.
-- Instances and volumes are counted by zone. Pools of Cinder have a capacity by its notifications; that of a zone is the last sample of the gauges capacity.vcpus, capacity.memory_gib and capacity.volume_gib whose resource_id is the zone.
-- days_left is empty if the capacity is not known, or nothing grows.
-- partition: month
WITH RECURSIVE existed AS MATERIALIZED (
    SELECT
        resource_type,
        coalesce(zone, '') AS zone,
        CASE WHEN resource_type = 'instance' THEN vcpus END AS vcpus,
        CASE WHEN resource_type = 'instance' THEN memory_mib END AS memory_mib,
        CASE WHEN resource_type = 'volume' THEN size_gib END AS size_gib,
        epoch_us(CASE WHEN started_at > :start THEN started_at ELSE :start END) AS start_us,
        epoch_us(CASE WHEN counted_until < :end THEN counted_until ELSE :end END) AS end_us
    FROM counted_periods
    WHERE started_at < :end AND (ended_at > :start OR ended_at IS NULL) AND resource_type || '' IN ('instance', 'volume')  -- || '': SQLite would read those of all times
),
days (day_us, until_us) AS (
    SELECT
        epoch_us(:start) / 86400000000 * 86400000000,
        CASE
            WHEN epoch_us(:start) / 86400000000 * 86400000000 + 86400000000 < epoch_us(:end)
                THEN epoch_us(:start) / 86400000000 * 86400000000 + 86400000000
            ELSE epoch_us(:end)
        END
    WHERE :start < :end
    UNION ALL
    SELECT
        until_us,
        CASE WHEN until_us + 86400000000 < epoch_us(:end) THEN until_us + 86400000000 ELSE epoch_us(:end) END
    FROM days
    WHERE until_us < epoch_us(:end)
),
pieces AS (
    SELECT
        d.day_us AS day_us,
        d.until_us - CASE WHEN d.day_us < epoch_us(:start) THEN epoch_us(:start) ELSE d.day_us END AS of_us,
        e.zone AS zone,
        e.vcpus AS vcpus,
        e.memory_mib AS memory_mib,
        e.size_gib AS size_gib,
        CASE WHEN e.end_us < d.until_us THEN e.end_us ELSE d.until_us END
        - CASE WHEN e.start_us > d.day_us THEN e.start_us ELSE d.day_us END AS us
    FROM existed AS e
    JOIN days AS d ON d.day_us < e.end_us AND d.until_us > e.start_us
),
zones AS MATERIALIZED (
    SELECT
        day_us,
        zone,
        sum(vcpus * us) / of_us AS vcpus,
        sum(memory_mib * us) / 1024.0 / of_us AS memory_gib,
        sum(size_gib * us) / of_us AS volume_gib
    FROM pieces
    GROUP BY day_us, of_us, zone
),
pools AS (
    SELECT epoch_us(r.bucket) AS day_us, s.resource_id AS pool, s.meter AS meter, max(r.last) AS gib
    FROM series AS s
    CROSS JOIN rollup_1d AS r
    WHERE s.meter IN ('volume.provider.pool.capacity.total', 'volume.provider.pool.capacity.free')
    AND s.source <> 'meterhouse-verify' AND s.last_point_at >= date(:start) AND s.first_point_at < :end
    AND r.series_id = s.series_id AND r.bucket >= date(:start) AND r.bucket < :end AND r.count > 0
    GROUP BY r.bucket, s.resource_id, s.meter
),
daily AS (
    SELECT 'vCPU' AS what, zone AS place, day_us, vcpus AS used, CAST(NULL AS double precision) AS capacity
    FROM zones WHERE vcpus IS NOT NULL
    UNION ALL
    SELECT 'memory GiB', zone, day_us, memory_gib, NULL FROM zones WHERE memory_gib IS NOT NULL
    UNION ALL
    SELECT 'volume GiB', zone, day_us, volume_gib, NULL FROM zones WHERE volume_gib IS NOT NULL
    UNION ALL
    SELECT 'pool GiB', t.pool, t.day_us, t.gib - f.gib, t.gib
    FROM pools AS t
    JOIN pools AS f ON f.pool = t.pool AND f.day_us = t.day_us AND f.meter = 'volume.provider.pool.capacity.free'
    WHERE t.meter = 'volume.provider.pool.capacity.total'
),
ordered AS (
    SELECT
        what,
        place,
        used,
        capacity,
        day_us / 86400000000 - epoch_us(:start) / 86400000000 AS day,
        row_number() OVER (PARTITION BY what, place ORDER BY day_us DESC) AS back
    FROM daily
),
fitted AS (
    SELECT
        what,
        place,
        count(*) AS days,
        max(CASE WHEN back = 1 THEN used END) AS used,
        max(CASE WHEN back = 1 THEN capacity END) AS capacity,
        CASE
            WHEN count(*) > 1
                THEN (count(*) * sum(day * used) - sum(day) * sum(used)) * 1.0
                    / (count(*) * sum(day * day) - sum(day) * sum(day))
        END AS growth
    FROM ordered
    GROUP BY what, place
),
told AS (
    SELECT
        CASE s.meter
            WHEN 'capacity.vcpus' THEN 'vCPU'
            WHEN 'capacity.memory_gib' THEN 'memory GiB'
            ELSE 'volume GiB'
        END AS what,
        s.resource_id AS place,
        r.last AS capacity,
        row_number() OVER (PARTITION BY s.meter, s.resource_id ORDER BY r.last_at DESC) AS back
    FROM series AS s
    CROSS JOIN rollup_1d AS r
    WHERE s.meter IN ('capacity.vcpus', 'capacity.memory_gib', 'capacity.volume_gib')
    AND s.source <> 'meterhouse-verify' AND r.series_id = s.series_id AND r.bucket < :end AND r.count > 0
),
known AS (
    SELECT
        f.what AS what,
        f.place AS place,
        f.days AS days,
        f.used AS used,
        f.growth AS growth,
        coalesce(f.capacity, t.capacity) AS capacity
    FROM fitted AS f
    LEFT JOIN told AS t ON t.what = f.what AND t.place = f.place AND t.back = 1
)
SELECT
    what,
    place,
    days AS days_seen,
    used,
    growth AS growth_per_day,
    capacity,
    capacity - used AS free,
    CASE
        WHEN capacity <= used THEN 0.0
        WHEN growth > 0 THEN (capacity - used) / growth
    END AS days_left
FROM known
ORDER BY CASE WHEN capacity <= used OR growth > 0 AND capacity IS NOT NULL THEN 0 ELSE 1 END, 8, what, byte_order(place)
