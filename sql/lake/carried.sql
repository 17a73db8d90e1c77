-- The last good point of each series in the hourly roll-ups from $from to $until, except those that are recomputed.
SELECT series_id, arg_max(last_at, bucket) AS timestamp, arg_max("last", bucket) AS volume
FROM rollups
WHERE granularity_s = 3600 AND bucket >= '$from' AND bucket < '$until' AND last_at IS NOT NULL AND NOT ($wanted)
GROUP BY series_id
