-- Hours whose first metadata of a series is compared with that of an hour that has changed: for each series whose last
-- metadata of a rolled-up hour has changed, the next hour of the series that has some, if it is carried that far.
--
-- In: before, after (series_id, bucket, metadata_id: hourly roll-ups of the wanted hours),
--     described (series_id, bucket: hours of series with metadata outside the wanted ones)
WITH changed AS (
    SELECT series_id, bucket
    FROM before FULL JOIN after USING (series_id, bucket)
    WHERE before.metadata_id IS DISTINCT FROM after.metadata_id
)
SELECT DISTINCT d.bucket AS next_hour
FROM changed AS c ASOF JOIN described AS d ON d.series_id = c.series_id AND c.bucket < d.bucket
WHERE d.bucket <= c.bucket + INTERVAL '$carry_hours hours'
