-- Rows with what identifies their points: series_id and timestamp; delta_id for deltas; level for gauges and counters.
-- Two rows are copies of one point if all four are equal. None is null. NaN equals NaN, and no level is -0.0.
--
-- Of a point's copies, the one with the lowest `arrival` counts: the first that arrived at or after its own time, or, if
-- all came before it (by a fast clock), the last. Ties: lower sample_id, then lower metadata_id, both null last.
--
-- $relation: with columns of samples
SELECT
    *,
    CASE WHEN type = 'delta' THEN coalesce(sample_id, 0) ELSE 0 END AS delta_id,
    CASE WHEN type = 'delta' OR volume = 0 THEN 0.0 ELSE volume END AS level,
    CASE
        WHEN recorded_at >= timestamp THEN epoch_us(recorded_at) - epoch_us(timestamp)
        ELSE 4611686018427387904 + epoch_us(timestamp) - epoch_us(recorded_at)
    END AS arrival
FROM $relation
