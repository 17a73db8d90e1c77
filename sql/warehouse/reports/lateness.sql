-- How long after their own time did points arrive?
-- Points are counted by powers of two of the seconds. Median and 95th percentile are the mean of the power that they are in.
-- late_points came after more than METERHOUSE_LATENESS_SECONDS, as it was set then.
WITH octaves AS (
    SELECT
        date(hour) AS day,
        meter,
        octave,
        sum(points) AS points,
        sum(late) AS late,
        sum(seconds) AS seconds,
        max(max_seconds) AS max_seconds
    FROM lateness
    WHERE hour >= :start AND hour < :end
    GROUP BY date(hour), meter, octave
),
placed AS (
    SELECT
        day,
        meter,
        points,
        late,
        max_seconds,
        seconds / points AS mean_seconds,
        sum(points) OVER (PARTITION BY day, meter ORDER BY octave) AS up_to,
        sum(points) OVER (PARTITION BY day, meter) AS all_points
    FROM octaves
)
SELECT
    day,
    meter,
    sum(points) AS points,
    sum(late) AS late_points,
    min(CASE WHEN up_to >= 0.5 * all_points THEN mean_seconds END) AS median_seconds,
    min(CASE WHEN up_to >= 0.95 * all_points THEN mean_seconds END) AS p95_seconds,
    max(max_seconds) AS max_seconds
FROM placed
GROUP BY day, meter
ORDER BY day, byte_order(meter)
