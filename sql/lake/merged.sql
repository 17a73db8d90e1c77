-- The points whose series and time several rows have, each once; see point_identity.sql.
--
-- In:  points (columns of samples; may hold a point more than once), crowded (series_id, timestamp)
-- Out: series_id, timestamp, volume, sample_id (null but for deltas), recorded_at, type
-- $more: a further column that all copies of a point share, with a comma before it
SELECT DISTINCT ON (series_id, timestamp, delta_id, level)
    series_id, timestamp, CASE WHEN volume = 0 THEN 0.0 ELSE volume END AS volume,
    CASE WHEN type = 'delta' THEN sample_id END AS sample_id, recorded_at, type$more
FROM ($points) AS p SEMI JOIN crowded USING (series_id, timestamp)
ORDER BY arrival, p.sample_id NULLS LAST, p.metadata_id NULLS LAST, p.volume
