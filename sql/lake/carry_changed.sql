-- Hours with counters whose increase starts from a point that has changed: for each series whose last point of a
-- rolled-up hour has changed, the next hour of the series.
--
-- In: before, after (series_id, bucket, "last", last_at: hourly roll-ups of the wanted hours), later (hourly roll-ups)
WITH changed AS (
    SELECT series_id, bucket
    FROM before FULL JOIN after USING (series_id, bucket)
    WHERE before."last" IS DISTINCT FROM after."last" OR before.last_at IS DISTINCT FROM after.last_at
)
SELECT DISTINCT next_hour FROM (
    SELECT c.series_id, c.bucket, min(l.bucket) AS next_hour
    FROM changed AS c JOIN later AS l ON l.series_id = c.series_id AND l.bucket > c.bucket
    WHERE l.increase IS NOT NULL
    GROUP BY ALL
)
