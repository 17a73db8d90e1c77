-- The metadata of the last good point that has metadata, of each series and day that is rolled up.
--
-- In:  points (columns of samples), steps (series_id, timestamp: the good points), excluded_points (quarantine)
SELECT
    series_id,
    time_bucket(INTERVAL '1 day', timestamp, TIMESTAMPTZ '1970-01-01 00:00:00+00') AS bucket,
    arg_max(metadata_id, (timestamp, recorded_at)) AS metadata_id
FROM (SELECT series_id, timestamp, sample_id, recorded_at, metadata_id FROM points WHERE metadata_id IS NOT NULL)
SEMI JOIN steps USING (series_id, timestamp)
ANTI JOIN excluded_points USING (series_id, timestamp, sample_id)
GROUP BY ALL
