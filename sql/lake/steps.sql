-- Good points with each counter's increase since its previous point.
--
-- In: points (columns of samples), carried (series_id, timestamp, volume), excluded_points (series_id, sample_id)
-- After a reset the counter started from zero, so it has grown by its new volume. The first point of all has no increase.
WITH good AS (
    SELECT series_id, timestamp, sample_id, any_value(volume) AS volume, any_value(type) AS type
    FROM points ANTI JOIN excluded_points USING (series_id, timestamp, sample_id)
    GROUP BY series_id, timestamp, sample_id
),
counters AS (
    SELECT *, lag(volume) OVER (PARTITION BY series_id ORDER BY timestamp) AS previous
    FROM (
        SELECT series_id, timestamp, volume, type FROM good WHERE type = 'cumulative'
        UNION ALL
        SELECT series_id, timestamp, volume, 'carried' FROM carried
        SEMI JOIN (SELECT DISTINCT series_id FROM points WHERE type = 'cumulative') USING (series_id)
    )
)
SELECT series_id, timestamp, volume, type, NULL::DOUBLE AS increase, NULL::BIGINT AS reset
FROM good WHERE type != 'cumulative'
UNION ALL
SELECT
    series_id, timestamp, volume, type,
    CASE WHEN previous IS NULL THEN 0.0 WHEN volume < previous THEN volume ELSE volume - previous END,
    (previous IS NOT NULL AND volume < previous)::BIGINT
FROM counters WHERE type = 'cumulative'
