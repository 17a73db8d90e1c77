-- Good points with each counter's increase since its previous point.
--
-- In: points (columns of samples), carried (series_id, timestamp, volume), excluded_points (quarantine)
-- Placeholders: the queries for points and excluded_points with their identity (point_identity.sql).
-- After a reset, the counter started from zero, so it has grown by its new volume. The first point of a series has no
-- increase, and neither has a point that comes more than $carry_hours hours after the one before.
WITH good AS (
    SELECT series_id, timestamp, any_value(volume) AS volume, any_value(type) AS type
    FROM ($points) ANTI JOIN ($excluded) USING (series_id, timestamp, delta_id, level)
    GROUP BY series_id, timestamp, delta_id, level
),
counters AS (
    SELECT *, CASE
        WHEN lag(timestamp) OVER by_time >= timestamp - INTERVAL '$carry_hours hours' THEN lag(volume) OVER by_time
    END AS previous
    FROM (
        SELECT series_id, timestamp, volume, type FROM good WHERE type = 'cumulative'
        UNION ALL
        SELECT series_id, timestamp, volume, 'carried' FROM carried
        SEMI JOIN (SELECT DISTINCT series_id FROM points WHERE type = 'cumulative') USING (series_id)
    )
    WINDOW by_time AS (PARTITION BY series_id ORDER BY timestamp)
)
SELECT series_id, timestamp, volume, type, NULL::DOUBLE AS increase, NULL::BIGINT AS reset
FROM good WHERE type != 'cumulative'
UNION ALL
SELECT
    series_id, timestamp, volume, type,
    CASE WHEN previous IS NULL THEN 0.0 WHEN volume < previous THEN volume ELSE volume - previous END,
    (previous IS NOT NULL AND volume < previous)::BIGINT
FROM counters WHERE type = 'cumulative'
