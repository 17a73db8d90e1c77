-- Verdicts: each distinct point once, with the bits of the rules that it breaks.
--
-- In:  points (columns of samples; may hold a sample more than once)
--      carried (series_id, timestamp, volume): earlier points of counters, only for comparison
-- Out: series_id, timestamp, volume, sample_id, recorded_at, type, bits, previous
--      previous: the counter's previous good point, at most $carry_hours hours older; null for other types and for
--      excluded points
--
-- $applies: one boolean column for each rule, by series. $point_bits: bits of the checks that only need the point.
-- $duplicate_bits: bits of a superseded point. $reset_bits: bits of a counter that is below its previous point.
-- $critical: the bits that exclude a point.
WITH dims AS MATERIALIZED (
    SELECT series_id, type, $applies
    FROM (SELECT series_id, any_value(meter) AS meter, any_value(type) AS type FROM points GROUP BY series_id)
),
crowded AS MATERIALIZED (
    SELECT series_id, timestamp FROM points GROUP BY series_id, timestamp HAVING count(*) > 1
),
alone AS (
    SELECT
        p.series_id, p.timestamp, p.volume, p.sample_id, p.recorded_at, dims.* EXCLUDE (series_id),
        $point_bits AS alone_bits
    FROM points AS p JOIN dims USING (series_id)
),
ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY series_id, timestamp, CASE WHEN type = 'delta' THEN sample_id ELSE 0 END
        ORDER BY (alone_bits & $critical) = 0 DESC, recorded_at DESC, sample_id
    ) AS place
    FROM (
        SELECT DISTINCT ON (series_id, timestamp, sample_id) * FROM alone SEMI JOIN crowded USING (series_id, timestamp)
        ORDER BY series_id, timestamp, sample_id, recorded_at
    )
),
flagged AS MATERIALIZED (
    SELECT series_id, timestamp, volume, sample_id, recorded_at, type, alone_bits AS bits, COLUMNS('applies_.*')
    FROM alone ANTI JOIN crowded USING (series_id, timestamp)
    UNION ALL
    SELECT
        series_id, timestamp, volume, sample_id, recorded_at, type, alone_bits | $duplicate_bits, COLUMNS('applies_.*')
    FROM ranked
),
counters AS (
    SELECT *, CASE
        WHEN lag(timestamp) OVER by_time >= timestamp - INTERVAL '$carry_hours hours' THEN lag(volume) OVER by_time
    END AS previous
    FROM (
        SELECT * FROM flagged WHERE type = 'cumulative' AND (bits & $critical) = 0
        UNION ALL BY NAME
        SELECT series_id, timestamp, volume, -1 AS bits FROM carried SEMI JOIN dims USING (series_id)
    )
    WINDOW by_time AS (PARTITION BY series_id ORDER BY timestamp)
)
SELECT series_id, timestamp, volume, sample_id, recorded_at, type, bits, NULL::DOUBLE AS previous
FROM flagged WHERE type != 'cumulative' OR (bits & $critical) != 0
UNION ALL
SELECT series_id, timestamp, volume, sample_id, recorded_at, type, bits | $reset_bits, previous
FROM counters WHERE bits >= 0
