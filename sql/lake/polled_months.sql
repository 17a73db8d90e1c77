-- By series of pollsters: when it had points in a month, how many, and the bounds of their volumes.
SELECT
    r.series_id,
    epoch_us(min(r.first_at)) AS first_at,
    epoch_us(max(r.last_at)) AS last_at,
    sum(r.count)::BIGINT AS points,
    min(r.min) AS low,
    max(r.max) AS high,
    (coalesce(median(r.cadence_s), 0) * 1000000)::BIGINT AS step
FROM rollups AS r
SEMI JOIN known AS k ON k.series_id = r.series_id
WHERE r.granularity_s = 86400 AND r.count > 0 AND r.bucket >= $start AND r.bucket < $end
GROUP BY r.series_id
