-- The audits that cover a part of a day: from when to when a service said that a resource exists.
CREATE TEMP TABLE audits AS
SELECT
    resource_type,
    resource_id,
    epoch_us(from_at) AS from_us,
    epoch_us(least(to_at, coalesce(ended_at, to_at))) AS to_us
FROM evidence
WHERE effect = 'audit' AND source <> $verify AND from_at < $end AND to_at > $start
