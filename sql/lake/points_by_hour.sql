-- The points of an arrival hour by event hour: how many, and the sum of their hashes. Copies of a point are one.
--
-- The rows are those of point_identity.sql.
SELECT
    date_trunc('hour', timestamp) AS hour,
    count(*) AS points,
    sum(hash(series_id, timestamp, delta_id, level, arrival, metadata_id)) AS digest
FROM (
    SELECT
        series_id,
        timestamp,
        delta_id,
        level,
        min(arrival) AS arrival,
        arg_min_null(metadata_id, arrival) AS metadata_id
    FROM ($identified)
    GROUP BY series_id, timestamp, delta_id, level
)
GROUP BY hour
