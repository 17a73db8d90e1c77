-- The first and last good point of each series in the days that are rolled up, and the metadata of the last.
--
-- In:  points (columns of samples), steps (series_id, timestamp: the good points), excluded_points (quarantine)
-- Placeholders: the queries for points and excluded_points with their identity (point_identity.sql).
-- Out: series_id, first_at, last_at, metadata_id; all null but the series if the series has only excluded points
WITH good AS (
    SELECT series_id, min(timestamp) AS first_at, max(timestamp) AS last_at FROM steps GROUP BY series_id
),
described AS (
    SELECT series_id, arg_max(metadata_id, recorded_at) AS metadata_id
    FROM (SELECT * FROM ($points) WHERE metadata_id IS NOT NULL)
    SEMI JOIN (SELECT series_id, last_at AS timestamp FROM good) USING (series_id, timestamp)
    ANTI JOIN ($excluded) USING (series_id, timestamp, delta_id, level)
    GROUP BY series_id
)
SELECT series_id, first_at, last_at, metadata_id FROM good LEFT JOIN described USING (series_id)
UNION ALL
SELECT DISTINCT series_id, NULL::TIMESTAMPTZ, NULL::TIMESTAMPTZ, NULL::BIGINT
FROM excluded_points ANTI JOIN good USING (series_id)
