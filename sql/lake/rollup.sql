-- Roll-ups of good points at one granularity, buckets aligned to the epoch, UTC.
--
-- In:  steps (series_id, timestamp, volume, type, increase, reset), excluded_points (series_id, timestamp)
-- $seconds: the granularity. $wanted: a condition on the bucket's points.
-- Only gauges and counters have first and last, because deltas may share a time. Only counters have increase and resets.
WITH good AS (
    SELECT
        series_id,
        time_bucket(INTERVAL '$seconds seconds', timestamp, TIMESTAMPTZ '1970-01-01 00:00:00+00') AS bucket,
        count(*) AS count,
        fsum(volume) AS sum,
        min(volume) AS min,
        max(volume) AS max,
        fsum(volume * volume) AS sum_squares,
        arg_min(volume, timestamp) FILTER (type != 'delta') AS first,
        min(timestamp) AS first_at,
        arg_max(volume, timestamp) FILTER (type != 'delta') AS last,
        max(timestamp) AS last_at,
        fsum(increase) AS increase,
        sum(reset) AS resets,
        quantile_cont(volume, [0.5, 0.95, 0.99]) AS percentiles
    FROM steps
    WHERE $wanted
    GROUP BY ALL
),
bad AS (
    SELECT
        series_id,
        time_bucket(INTERVAL '$seconds seconds', timestamp, TIMESTAMPTZ '1970-01-01 00:00:00+00') AS bucket,
        count(*) AS excluded
    FROM excluded_points
    WHERE $wanted
    GROUP BY ALL
)
SELECT
    $seconds::INTEGER AS granularity_s,
    bucket::DATE AS event_day,
    series_id,
    bucket,
    coalesce(count, 0) AS count,
    sum, min, max, sum_squares, first, first_at, last, last_at,
    increase,
    resets::BIGINT AS resets,
    percentiles[1] AS p50,
    percentiles[2] AS p95,
    percentiles[3] AS p99,
    coalesce(excluded, 0) AS excluded,
    NULL::BIGINT AS metadata_id,
    NULL::MAP(VARCHAR, DOUBLE) AS percentiles,
    NULL::DOUBLE AS cadence_s
FROM good FULL JOIN bad USING (series_id, bucket)
ORDER BY series_id, bucket
