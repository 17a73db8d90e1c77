-- Of offered samples, those whose points are not present: each point once, by the copy that counts.
--
-- A copy that would count in the place of the present ones is not present either. A sample of a gauge or counter that
-- is present by its id, with another volume, is present: other definitions converted it.
--
-- Placeholders: the queries for both, with their identity (point_identity.sql). The offered ones have a column _row.
-- Out: _row
WITH offered AS ($offered),
present AS (
    FROM ($present) SEMI JOIN offered USING (series_id, timestamp)
),
known AS (
    SELECT series_id, timestamp, delta_id, level, min(arrival) AS known_arrival FROM present GROUP BY ALL
)
SELECT DISTINCT ON (series_id, timestamp, delta_id, level) _row
FROM offered
LEFT JOIN known USING (series_id, timestamp, delta_id, level)
ANTI JOIN present ON
    present.series_id = offered.series_id AND present.timestamp = offered.timestamp
    AND present.sample_id = offered.sample_id AND present.level != offered.level
WHERE known_arrival IS NULL OR arrival < known_arrival
ORDER BY arrival, sample_id NULLS LAST, metadata_id NULLS LAST, _row
