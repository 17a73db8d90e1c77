-- What did each project use each day?
-- Hours of gauges are the sum of the mean of each hour that has points. Counters are their increase across resets.
SELECT
    date(r.bucket) AS day,
    s.project_id AS project_id,
    count(DISTINCT CASE WHEN s.meter = 'cpu' THEN s.resource_id END) AS instances,
    coalesce(sum(CASE WHEN s.meter = 'vcpus' AND r.count > 0 THEN r.sum / r.count END), 0.0) AS vcpu_hours,
    coalesce(sum(CASE WHEN s.meter = 'memory' AND r.count > 0 THEN r.sum / r.count END), 0.0) / 1024.0 AS memory_gib_hours,
    coalesce(sum(CASE WHEN s.meter = 'cpu' THEN r.increase END), 0.0) / 3.6e12 AS cpu_hours,
    coalesce(sum(CASE WHEN s.meter = 'volume.size' AND r.count > 0 THEN r.sum / r.count END), 0.0) AS volume_gib_hours,
    coalesce(sum(CASE WHEN s.meter = 'disk.device.read.bytes' THEN r.increase END), 0.0) / 1073741824.0 AS disk_read_gib,
    coalesce(sum(CASE WHEN s.meter = 'disk.device.write.bytes' THEN r.increase END), 0.0) / 1073741824.0
        AS disk_write_gib,
    coalesce(sum(CASE WHEN s.meter = 'network.incoming.bytes' THEN r.increase END), 0.0) / 1073741824.0
        AS network_in_gib,
    coalesce(sum(CASE WHEN s.meter = 'network.outgoing.bytes' THEN r.increase END), 0.0) / 1073741824.0
        AS network_out_gib,
    sum(r.excluded) AS excluded_points
FROM rollup_1h AS r
JOIN series AS s ON s.series_id = r.series_id
WHERE r.bucket >= :start AND r.bucket < :end AND s.project_id IS NOT NULL
GROUP BY date(r.bucket), s.project_id
ORDER BY date(r.bucket), s.project_id
