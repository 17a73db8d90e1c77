-- The last good point of each counter before each span, at most $carry_hours hours earlier and outside all spans.
--
-- In: rollups, spans_of_carried (start_at, end_at)
-- Each bucket belongs to the next span only: to a later one, it is carried by the points of the span between.
WITH hourly AS (
    SELECT series_id, bucket, "last", last_at FROM rollups WHERE granularity_s = 3600 AND increase IS NOT NULL
),
outside AS (
    SELECT bucket
    FROM (SELECT DISTINCT bucket FROM hourly) ASOF LEFT JOIN spans_of_carried ON bucket >= start_at
    WHERE start_at IS NULL OR bucket >= end_at
),
before AS (
    SELECT bucket, start_at
    FROM outside ASOF JOIN spans_of_carried ON bucket < start_at
    WHERE bucket >= start_at - INTERVAL '$carry_hours hours'
)
SELECT series_id, arg_max(last_at, bucket) AS timestamp, arg_max("last", bucket) AS volume
FROM hourly JOIN before USING (bucket)
GROUP BY series_id, start_at
