-- The first and the last volume of each hour, with their times.
SELECT r.series_id, epoch_us(r.first_at) AS first_at, r.first, epoch_us(r.last_at) AS last_at, r.last
FROM rollups AS r
SEMI JOIN varying AS v ON v.series_id = r.series_id
WHERE r.granularity_s = 3600 AND r.count > 0 AND r.bucket >= $start AND r.bucket < $end
ORDER BY r.series_id, r.bucket
