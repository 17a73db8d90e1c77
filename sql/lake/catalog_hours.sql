-- The event hours of new samples; belated: how many samples arrived late.
--
-- runs: see `meterhouse/arrivals.py`
SELECT hour, sum(samples)::BIGINT AS samples, sum(belated)::BIGINT AS belated
FROM runs
GROUP BY ALL
ORDER BY ALL
