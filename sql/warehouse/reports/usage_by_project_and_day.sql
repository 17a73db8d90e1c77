-- What did each project use each day?
-- Hours of gauges are the sum of the mean of each hour that has points. Counters are their increase across resets.
-- A day is listed if it has good points.
-- A series without a unit is taken to have the usual one.
-- Series of these meters in another unit, or of another type, are left out: series_not_counted is their number.
WITH counted (meter, type, unit, older_unit) AS (
    VALUES
    ('cpu', 'cumulative', 'ns', 'ns'),
    ('vcpus', 'gauge', 'vcpu', 'vcpu'),
    ('memory', 'gauge', 'MiB', 'MB'),
    ('volume.size', 'gauge', 'GiB', 'GB'),
    ('disk.device.read.bytes', 'cumulative', 'B', 'B'),
    ('disk.device.write.bytes', 'cumulative', 'B', 'B'),
    ('network.incoming.bytes', 'cumulative', 'B', 'B'),
    ('network.outgoing.bytes', 'cumulative', 'B', 'B')
)
SELECT
    date(r.bucket) AS day,
    s.project_id AS project_id,
    count(DISTINCT CASE WHEN s.meter = 'cpu' AND r.count > 0 THEN s.resource_id END) AS instances,
    coalesce(sum(CASE WHEN c.meter = 'vcpus' AND r.count > 0 THEN r.sum / r.count END), 0.0) AS vcpu_hours,
    coalesce(sum(CASE WHEN c.meter = 'memory' AND r.count > 0 THEN r.sum / r.count END), 0.0) / 1024.0 AS memory_gib_hours,
    coalesce(sum(CASE WHEN c.meter = 'cpu' THEN r.increase END), 0.0) / 3.6e12 AS cpu_hours,
    coalesce(sum(CASE WHEN c.meter = 'volume.size' AND r.count > 0 THEN r.sum / r.count END), 0.0) AS volume_gib_hours,
    coalesce(sum(CASE WHEN c.meter = 'disk.device.read.bytes' THEN r.increase END), 0.0) / 1073741824.0 AS disk_read_gib,
    coalesce(sum(CASE WHEN c.meter = 'disk.device.write.bytes' THEN r.increase END), 0.0) / 1073741824.0
        AS disk_write_gib,
    coalesce(sum(CASE WHEN c.meter = 'network.incoming.bytes' THEN r.increase END), 0.0) / 1073741824.0
        AS network_in_gib,
    coalesce(sum(CASE WHEN c.meter = 'network.outgoing.bytes' THEN r.increase END), 0.0) / 1073741824.0
        AS network_out_gib,
    sum(r.excluded) AS excluded_points,
    count(DISTINCT CASE
        WHEN c.meter IS NULL AND r.count > 0 AND s.meter IN (SELECT meter FROM counted) THEN s.series_id
    END) AS series_not_counted
FROM rollup_1h AS r
JOIN series AS s ON s.series_id = r.series_id
LEFT JOIN counted AS c ON c.meter = s.meter AND c.type = s.type AND coalesce(s.unit, c.unit) IN (c.unit, c.older_unit)
WHERE r.bucket >= :start AND r.bucket < :end AND s.project_id IS NOT NULL
GROUP BY date(r.bucket), s.project_id
HAVING sum(r.count) > 0
ORDER BY date(r.bucket), s.project_id
