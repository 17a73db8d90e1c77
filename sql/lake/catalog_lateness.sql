-- How long after their own time new samples arrived, by event hour, meter and octave: octave n has those that came after
-- more than 2^(n-1) and at most 2^n seconds, and octave 0 those that came within a second, or before their time.
-- Samples of more than an hour ahead come from a wrong clock. What `meterhouse verify` sent is left out.
--
-- runs: see `meterhouse/arrivals.py`
SELECT
    hour,
    meter,
    octave,
    sum(samples)::BIGINT AS points,
    sum(belated)::BIGINT AS late,
    sum(seconds) AS seconds,
    max(max_seconds) AS max_seconds
FROM runs
WHERE NOT ahead AND source IS DISTINCT FROM 'meterhouse-verify'
GROUP BY hour, meter, octave
ORDER BY hour, meter, octave
