-- Threshold alarms: the statistic of the good points of each alarm by period, for all alarms together.
--
-- In:  rules (number, meter, statistic, start, until, period, keep, exclude_outliers, and resource_id, project_id:
--      the value that the query or `where` compare it with by eq, or null; chosen_by: the number of its `where`, or
--      null), conditions (number, field, op, value: the queries), chosen (number, series_id: what meets each `where`),
--      dims (series_id, meter, source, type, unit, resource_id, project_id, user_id), verdicts (judge.sql)
-- Out: number, series: the values of the last `keep` periods that have points, oldest first,
--      first_unit, last_unit: of all points of the window, by name; they differ if there are several units
-- Periods are anchored at the window's start. $critical: the bits that exclude a point.
WITH candidates AS (
    SELECT r.number, d.series_id FROM rules AS r JOIN dims AS d USING (meter, resource_id)
    WHERE r.resource_id IS NOT NULL AND (r.project_id IS NULL OR r.project_id = d.project_id)
    UNION ALL
    SELECT r.number, d.series_id FROM rules AS r JOIN dims AS d USING (meter, project_id)
    WHERE r.resource_id IS NULL AND r.project_id IS NOT NULL
    UNION ALL
    SELECT r.number, d.series_id FROM rules AS r JOIN dims AS d USING (meter)
    WHERE r.resource_id IS NULL AND r.project_id IS NULL
),
failing AS (
    SELECT number, series_id
    FROM (
        SELECT c.number, c.series_id, k.op, k.value, CASE k.field
            WHEN 'source' THEN d.source WHEN 'type' THEN d.type WHEN 'unit' THEN d.unit
            WHEN 'resource_id' THEN d.resource_id WHEN 'project_id' THEN d.project_id WHEN 'user_id' THEN d.user_id
        END AS held
        FROM candidates AS c JOIN conditions AS k USING (number) JOIN dims AS d USING (series_id)
    ) AS k
    WHERE NOT coalesce(CASE k.op
        WHEN 'eq' THEN held = k.value WHEN 'ne' THEN held != k.value
        WHEN 'lt' THEN held < k.value WHEN 'le' THEN held <= k.value
        WHEN 'gt' THEN held > k.value WHEN 'ge' THEN held >= k.value
    END, false)
),
pairs AS (
    SELECT c.number, c.series_id
    FROM candidates AS c
    ANTI JOIN failing USING (number, series_id)
    JOIN rules AS r USING (number)
    LEFT JOIN chosen AS w ON w.number = r.chosen_by AND w.series_id = c.series_id
    WHERE r.chosen_by IS NULL OR w.series_id IS NOT NULL
),
buckets AS (
    SELECT
        p.number,
        (epoch_us(v.timestamp) - epoch_us(r.start)) // (r.period * 1000000) AS bucket,
        count(*) AS points,
        CASE any_value(r.statistic)
            WHEN 'avg' THEN avg(v.volume) WHEN 'min' THEN min(v.volume) WHEN 'max' THEN max(v.volume)
            WHEN 'sum' THEN sum(v.volume) WHEN 'count' THEN count(*)
        END AS value,
        min(coalesce(d.unit, '')) AS first_unit,
        max(coalesce(d.unit, '')) AS last_unit
    FROM verdicts AS v
    JOIN pairs AS p USING (series_id)
    JOIN dims AS d USING (series_id)
    JOIN rules AS r ON r.number = p.number AND v.timestamp >= r.start AND v.timestamp <= r.until
    WHERE (v.bits & $critical) = 0
    GROUP BY ALL
),
usual AS (
    SELECT b.*
    FROM buckets AS b
    JOIN (SELECT number, avg(points) AS mean, stddev_pop(points) AS spread FROM buckets GROUP BY number) USING (number)
    JOIN rules AS r USING (number)
    WHERE NOT r.exclude_outliers OR points BETWEEN mean - 2 * spread AND mean + 2 * spread
),
kept AS (
    SELECT u.number, bucket, value
    FROM usual AS u JOIN rules AS r USING (number)
    QUALIFY row_number() OVER (PARTITION BY u.number ORDER BY bucket DESC) <= any_value(r.keep) OVER (PARTITION BY u.number)
)
SELECT number, series, first_unit, last_unit
FROM (SELECT number, list(value ORDER BY bucket) AS series FROM kept GROUP BY number)
JOIN (SELECT number, min(first_unit) AS first_unit, max(last_unit) AS last_unit FROM buckets GROUP BY number)
USING (number)
