-- Hours of series whose increase or rate starts from a point that has changed: for each series whose last point of a
-- rolled-up hour has changed, the next hour of the series, if the point is carried that far.
--
-- In: before, after (series_id, bucket, "last", last_at: hourly roll-ups of the wanted hours),
--     later (series_id, bucket: hours outside the wanted ones, of counters and of what rates are made of)
WITH changed AS (
    SELECT series_id, bucket
    FROM before FULL JOIN after USING (series_id, bucket)
    WHERE before."last" IS DISTINCT FROM after."last" OR before.last_at IS DISTINCT FROM after.last_at
)
SELECT DISTINCT l.bucket AS next_hour
FROM changed AS c ASOF JOIN later AS l ON l.series_id = c.series_id AND c.bucket < l.bucket
WHERE l.bucket <= c.bucket + INTERVAL '$carry_hours hours'
