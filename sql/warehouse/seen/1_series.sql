-- The times of the first and last good point of the series in `seen`.
-- A time of another day stays. If the series has no such point in these days any more, the daily roll-ups have the next.
-- Those of series that are kept out of the warehouse do not: then it is that of these days.
UPDATE series SET
    first_seen = CASE
        WHEN n.first_at <= series.first_seen THEN n.first_at
        WHEN series.first_seen < :start THEN series.first_seen
        ELSE coalesce((
            SELECT r.first_at FROM rollup_1d AS r
            WHERE r.series_id = series.series_id AND r.count > 0 ORDER BY r.bucket LIMIT 1
        ), n.first_at)
    END,
    last_seen = CASE
        WHEN n.last_at >= series.last_seen THEN n.last_at
        WHEN series.last_seen >= :end THEN series.last_seen
        ELSE coalesce((
            SELECT r.last_at FROM rollup_1d AS r
            WHERE r.series_id = series.series_id AND r.count > 0 ORDER BY r.bucket DESC LIMIT 1
        ), n.last_at)
    END,
    cadence_s = CASE WHEN n.last_at < series.last_seen THEN series.cadence_s ELSE n.cadence_s END
FROM seen AS n
WHERE n.series_id = series.series_id
