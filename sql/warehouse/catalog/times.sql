-- The times of the first and last points of series that have some outside of what is known.
--
-- outside: see `meterhouse/known_series.py`
UPDATE series SET
    first_point_at = CASE WHEN n.first_point_at < series.first_point_at THEN n.first_point_at ELSE series.first_point_at END,
    last_point_at = CASE WHEN n.last_point_at > series.last_point_at THEN n.last_point_at ELSE series.last_point_at END
FROM outside AS n
WHERE n.series_id = series.series_id
