-- How long after their own time new samples arrived, by event hour, meter and octave: octave n has those that came after
-- more than 2^(n-1) and at most 2^n seconds, and octave 0 those that came within a second, or before their time.
-- late: how many came after more than $lateness_seconds. Samples of more than an hour ahead come from a wrong clock.
SELECT
    hour,
    meter,
    octave::INTEGER AS octave,
    count(*) AS points,
    count(*) FILTER (late) AS late,
    sum(seconds) AS seconds,
    max(seconds) AS max_seconds
FROM (
    SELECT
        date_trunc('hour', timestamp) AS hour,
        meter,
        greatest(epoch_us(recorded_at) - epoch_us(timestamp), 0) / 1e6 AS seconds,
        seconds > $lateness_seconds AS late,
        CASE WHEN seconds > 1 THEN ceil(log2(seconds)) ELSE 0 END AS octave
    FROM fresh
    WHERE timestamp <= recorded_at + INTERVAL 1 HOUR
)
GROUP BY hour, meter, octave
ORDER BY hour, meter, octave
