-- The resource metadata of points: that of the copy that counts; see point_identity.sql.
--
-- In:  points (rows of samples with delta_id, level and arrival)
-- Out: series_id, timestamp, delta_id, level: which point it is; metadata_id (not null)
SELECT * FROM (
    SELECT DISTINCT ON (series_id, timestamp, delta_id, level) series_id, timestamp, delta_id, level, metadata_id
    FROM ($points)
    ORDER BY arrival, sample_id NULLS LAST, metadata_id NULLS LAST
) WHERE metadata_id IS NOT NULL
