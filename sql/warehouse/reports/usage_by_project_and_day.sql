-- What did each project use each day?
-- Sizes count for exactly as long as an instance or a volume had them: 4 vCPUs in 10 minutes are 0.67 vcpu_hours.
-- A resource counts until something told its end, in a span that is not over until now. If samples alone tell of it, it counts until the end of the hour of the last one.
-- Counters are their increase across resets, by the roll-ups. Of series that report the same counter of a resource at the same time, the largest counts.
-- Counters in a unit that is not the usual one, or that are not cumulative, are left out: series_not_counted is their number.
-- project_name is the last name of the day.
-- partition: day
WITH RECURSIVE names AS MATERIALIZED (
    SELECT id, name, date(valid_from) AS first_day, date(valid_to) AS after_day
    FROM name_history
    WHERE kind = 'project'
),
live AS MATERIALIZED (
    SELECT series_id, meter, type, unit, resource_id, project_id
    FROM series
    WHERE meter IN ('cpu', 'disk.device.read.bytes', 'disk.device.write.bytes', 'network.incoming.bytes', 'network.outgoing.bytes')
    AND source <> 'meterhouse-verify' AND last_point_at >= date(:start) AND first_point_at < :end
),
projects AS MATERIALIZED (
    SELECT project_id, row_number() OVER (ORDER BY project_id) AS number
    FROM (SELECT DISTINCT project_id FROM live) AS known
),
twice AS MATERIALIZED (
    SELECT resource_id, meter, project_id
    FROM live
    WHERE type = 'cumulative'
    GROUP BY resource_id, meter, project_id
    HAVING count(*) > 1
),
described AS MATERIALIZED (
    SELECT
        s.series_id AS series_id,
        p.number * 8 + CASE s.meter
            WHEN 'cpu' THEN 1
            WHEN 'disk.device.read.bytes' THEN 2
            WHEN 'disk.device.write.bytes' THEN 3
            WHEN 'network.incoming.bytes' THEN 4
            ELSE 5
        END AS place,
        CASE
            WHEN s.type <> 'cumulative' OR s.unit <> CASE s.meter WHEN 'cpu' THEN 'ns' ELSE 'B' END THEN ''
            WHEN t.resource_id IS NOT NULL THEN t.resource_id
        END AS apart
    FROM live AS s
    JOIN projects AS p ON p.project_id = s.project_id
    LEFT JOIN twice AS t ON t.resource_id = s.resource_id AND t.meter = s.meter AND t.project_id = s.project_id
),
counters AS MATERIALIZED (
    SELECT series_id, CASE WHEN apart IS NULL THEN place END AS place  -- without WHERE, after which planners expect few
    FROM described
),
shared AS MATERIALIZED (
    SELECT series_id, place, apart AS resource FROM described WHERE apart IS NOT NULL AND apart <> ''
),
increases AS (
    SELECT r.bucket AS bucket, c.place AS place, c.resource AS resource, r.increase, r.first_at, r.last_at
    FROM shared AS c
    CROSS JOIN rollup_1d AS r
    WHERE r.series_id = c.series_id AND r.bucket >= :days_from AND r.bucket < :days_to AND r.increase IS NOT NULL
    UNION ALL
    SELECT r.bucket AS bucket, c.place AS place, c.resource AS resource, r.increase, r.first_at, r.last_at
    FROM rollup_1h AS r
    CROSS JOIN shared AS c
    WHERE c.series_id = r.series_id AND r.bucket >= :start AND r.bucket < :days_from AND r.increase IS NOT NULL
    UNION ALL
    SELECT r.bucket AS bucket, c.place AS place, c.resource AS resource, r.increase, r.first_at, r.last_at
    FROM rollup_1h AS r
    CROSS JOIN shared AS c
    WHERE c.series_id = r.series_id AND r.bucket >= :days_to AND r.bucket < :end AND r.increase IS NOT NULL
),
summed AS (
    SELECT r.bucket AS bucket, c.place AS place, sum(r.increase) AS increase
    FROM counters AS c
    CROSS JOIN rollup_1d AS r
    WHERE c.place IS NOT NULL AND r.series_id = c.series_id AND r.bucket >= :days_from AND r.bucket < :days_to AND r.increase IS NOT NULL
    GROUP BY c.place, r.bucket
    UNION ALL
    SELECT r.bucket, c.place, sum(r.increase)
    FROM rollup_1h AS r
    CROSS JOIN counters AS c
    WHERE c.series_id = r.series_id AND r.bucket >= :start AND r.bucket < :days_from AND r.increase IS NOT NULL
    GROUP BY c.place, r.bucket
    UNION ALL
    SELECT r.bucket, c.place, sum(r.increase)
    FROM rollup_1h AS r
    CROSS JOIN counters AS c
    WHERE c.series_id = r.series_id AND r.bucket >= :days_to AND r.bucket < :end AND r.increase IS NOT NULL
    GROUP BY c.place, r.bucket
    UNION ALL
    SELECT
        bucket,
        place,
        CASE
            WHEN sum(epoch_us(last_at) - epoch_us(first_at)) > epoch_us(max(last_at)) - epoch_us(min(first_at))
                THEN max(increase)
            ELSE sum(increase)
        END
    FROM increases
    GROUP BY bucket, place, resource
),
grown AS (
    SELECT
        date(i.bucket) AS day,
        p.project_id AS project_id,
        sum(CASE WHEN i.place % 8 = 1 THEN i.increase END) AS cpu,
        sum(CASE WHEN i.place % 8 = 2 THEN i.increase END) AS disk_read,
        sum(CASE WHEN i.place % 8 = 3 THEN i.increase END) AS disk_write,
        sum(CASE WHEN i.place % 8 = 4 THEN i.increase END) AS network_in,
        sum(CASE WHEN i.place % 8 = 5 THEN i.increase END) AS network_out
    FROM summed AS i
    JOIN projects AS p ON p.number = i.place / 8
    GROUP BY date(i.bucket), p.project_id
),
unusual AS (
    SELECT date(r.bucket) AS day, p.project_id AS project_id, count(*) AS series
    FROM described AS c
    CROSS JOIN rollup_1d AS r
    JOIN projects AS p ON p.number = c.place / 8
    WHERE c.apart = '' AND r.series_id = c.series_id AND r.bucket >= date(:start) AND r.bucket < :end AND r.count > 0
    GROUP BY date(r.bucket), p.project_id
),
excluded AS (
    SELECT bucket, series_id, excluded
    FROM rollup_1d
    WHERE bucket >= :days_from AND bucket < :days_to AND excluded > 0
    UNION ALL
    SELECT bucket, series_id, excluded
    FROM rollup_1h
    WHERE ((bucket >= :start AND bucket < :days_from) OR (bucket >= :days_to AND bucket < :end)) AND excluded > 0
),
left_out AS (
    SELECT date(r.bucket) AS day, s.project_id AS project_id, sum(r.excluded) AS points
    FROM excluded AS r
    JOIN series AS s ON s.series_id = r.series_id
    WHERE s.project_id IS NOT NULL AND s.source <> 'meterhouse-verify'
    GROUP BY date(r.bucket), s.project_id
),
known AS MATERIALIZED (
    SELECT
        resource_type,
        resource_id,
        project_id,
        CASE WHEN resource_type = 'instance' THEN vcpus END AS vcpus,
        CASE WHEN resource_type = 'instance' THEN memory_mib END AS memory_mib,
        CASE WHEN resource_type = 'volume' THEN size_gib END AS size_gib,
        epoch_us(CASE WHEN started_at > :start THEN started_at ELSE :start END) AS start_us,
        epoch_us(CASE WHEN counted_until < :end THEN counted_until ELSE :end END) AS end_us
    FROM counted_periods
    WHERE started_at < :end AND (ended_at > :start OR ended_at IS NULL)
    AND resource_type || '' IN ('instance', 'volume') AND project_id IS NOT NULL  -- || '': SQLite would read those of all times
),
existed AS MATERIALIZED (
    SELECT
        resource_type,
        resource_id,
        project_id,
        vcpus,
        memory_mib,
        size_gib,
        dense_rank() OVER (ORDER BY project_id) AS project,
        CASE
            WHEN resource_type = 'instance'
                THEN coalesce(lag(end_us) OVER (PARTITION BY resource_type, resource_id, project_id ORDER BY start_us), 0)
        END AS instance_before_us,
        start_us,
        end_us
    FROM known
    WHERE end_us > start_us
),
days (day_us) AS (
    SELECT min(start_us) / 86400000000 * 86400000000 FROM existed HAVING count(*) > 0
    UNION ALL
    SELECT day_us + 86400000000 FROM days WHERE day_us + 86400000000 < epoch_us(:end)
),
pieces AS (
    SELECT
        d.day_us AS day_us,
        e.project_id AS project_id,
        e.project AS project,
        CASE WHEN e.instance_before_us <= d.day_us THEN 1 ELSE 0 END AS instance,
        e.vcpus AS vcpus,
        e.memory_mib AS memory_mib,
        e.size_gib AS size_gib,
        CASE WHEN e.end_us < d.day_us + 86400000000 THEN e.end_us ELSE d.day_us + 86400000000 END
        - CASE WHEN e.start_us > d.day_us THEN e.start_us ELSE d.day_us END AS us
    FROM existed AS e
    JOIN days AS d ON d.day_us < e.end_us AND d.day_us + 86400000000 > e.start_us
),
sizes AS (
    SELECT
        utc_date(day_us) AS day,
        max(project_id) AS project_id,
        sum(instance) AS instances,
        sum(vcpus * us) AS vcpus,
        sum(memory_mib * us) AS memory_mib,
        sum(size_gib * us) AS volume_gib
    FROM pieces
    GROUP BY project, day_us
),
parts AS (
    SELECT
        day, project_id, instances, vcpus, memory_mib, volume_gib,
        0.0 AS cpu, 0.0 AS disk_read, 0.0 AS disk_write, 0.0 AS network_in, 0.0 AS network_out, 0 AS points, 0 AS series
    FROM sizes
    UNION ALL
    SELECT day, project_id, 0, 0.0, 0.0, 0.0, cpu, disk_read, disk_write, network_in, network_out, 0, 0 FROM grown
    UNION ALL
    SELECT day, project_id, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, points, 0 FROM left_out
    UNION ALL
    SELECT day, project_id, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, series FROM unusual
),
named AS (
    SELECT p.day AS day, n.id AS project_id, n.name AS name
    FROM (SELECT DISTINCT day FROM parts) AS p
    JOIN names AS n ON n.first_day <= p.day AND (n.after_day > p.day OR n.after_day IS NULL)
),
together AS (
    SELECT
        day, project_id, instances, vcpus, memory_mib, volume_gib,
        cpu, disk_read, disk_write, network_in, network_out, points, series, NULL AS name
    FROM parts
    UNION ALL
    SELECT day, project_id, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, name FROM named
)
SELECT
    day,
    project_id,
    sum(instances) AS instances,
    coalesce(sum(vcpus), 0.0) / 3.6e9 AS vcpu_hours,
    coalesce(sum(memory_mib), 0.0) / 1024.0 / 3.6e9 AS memory_gib_hours,
    coalesce(sum(cpu), 0.0) / 3.6e12 AS cpu_hours,
    coalesce(sum(volume_gib), 0.0) / 3.6e9 AS volume_gib_hours,
    coalesce(sum(disk_read), 0.0) / 1073741824.0 AS disk_read_gib,
    coalesce(sum(disk_write), 0.0) / 1073741824.0 AS disk_write_gib,
    coalesce(sum(network_in), 0.0) / 1073741824.0 AS network_in_gib,
    coalesce(sum(network_out), 0.0) / 1073741824.0 AS network_out_gib,
    sum(points) AS excluded_points,
    sum(series) AS series_not_counted,
    max(name) AS project_name
FROM together
GROUP BY day, project_id
HAVING count(*) > count(CASE WHEN points > 0 OR name IS NOT NULL THEN 1 END)
ORDER BY day, byte_order(project_id)
