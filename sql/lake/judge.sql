-- Verdicts: each distinct point with the bits of the rules that it breaks.
--
-- In:  points (columns of samples), crowded (series_id, timestamp: of which points has several rows), merged (merged.sql)
--      carried (series_id, timestamp, volume): earlier points of counters, only for comparison
-- Out: series_id, timestamp, volume, sample_id (null but for deltas), recorded_at, type, bits, previous
--      previous: the counter's previous good point, at most $carry_hours hours older; null for other types and for
--      excluded points
--
-- Different volumes of a gauge or counter at one time are in conflict. The one that counts breaks no critical rule by
-- itself, if there is one, and of these it arrived last; if several did, it is the largest.
--
-- $applies: one boolean column for each rule, by series. $point_bits: bits of the checks that only need the point.
-- $accepted: empty, or `, accepted`: whether a correction accepts the point, which decides on $point_bits.
-- $duplicate_bits: bits of a superseded point. $reset_bits: bits of a counter that is below its previous point.
-- $critical: the bits that exclude a point.
WITH dims AS MATERIALIZED (
    SELECT series_id, type, $applies
    FROM (SELECT series_id, any_value(meter) AS meter, any_value(type) AS type FROM points GROUP BY series_id)
),
alone AS (
    SELECT p.* EXCLUDE (type), 1 AS place, dims.* EXCLUDE (series_id), $point_bits AS alone_bits
    FROM (
        SELECT
            series_id, timestamp, CASE WHEN volume = 0 THEN 0.0 ELSE volume END AS volume,
            CASE WHEN type = 'delta' THEN sample_id END AS sample_id, recorded_at, type$accepted
        FROM points ANTI JOIN crowded USING (series_id, timestamp)
    ) AS p JOIN dims USING (series_id)
),
together AS (
    SELECT *, CASE WHEN type = 'delta' THEN 1 ELSE row_number() OVER (
        PARTITION BY series_id, timestamp
        ORDER BY (alone_bits & $critical) = 0 DESC, recorded_at DESC, volume DESC
    ) END AS place
    FROM (
        SELECT p.* EXCLUDE (type), dims.* EXCLUDE (series_id), $point_bits AS alone_bits
        FROM merged AS p JOIN dims USING (series_id)
    )
),
flagged AS MATERIALIZED (
    SELECT * EXCLUDE (alone_bits), alone_bits AS bits FROM alone
    UNION ALL BY NAME
    SELECT * EXCLUDE (alone_bits), alone_bits | $duplicate_bits AS bits FROM together
),
counters AS (
    SELECT *, CASE
        WHEN lag(timestamp) OVER by_time >= timestamp - INTERVAL '$carry_hours hours' THEN lag(volume) OVER by_time
    END AS previous
    FROM (
        SELECT * FROM flagged WHERE type = 'cumulative' AND (bits & $critical) = 0
        UNION ALL BY NAME
        SELECT series_id, timestamp, volume, -1 AS bits, 0 AS place FROM carried SEMI JOIN dims USING (series_id)
    )
    -- Carried points first, and of points in conflict the one that counts last, should a site's rules keep the others.
    WINDOW by_time AS (PARTITION BY series_id ORDER BY timestamp, bits >= 0, place DESC)
)
SELECT series_id, timestamp, volume, sample_id, recorded_at, type, bits, NULL::DOUBLE AS previous
FROM flagged WHERE type != 'cumulative' OR (bits & $critical) != 0
UNION ALL
SELECT series_id, timestamp, volume, sample_id, recorded_at, type, bits | $reset_bits, previous
FROM counters WHERE bits >= 0
