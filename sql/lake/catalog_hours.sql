-- The event hours of new samples; belated: how many samples arrived more than $lateness_seconds after their time.
SELECT
    date_trunc('hour', timestamp) AS hour,
    count(*) AS samples,
    count(*) FILTER (recorded_at > timestamp + to_seconds($lateness_seconds)) AS belated
FROM fresh
GROUP BY ALL
ORDER BY ALL
