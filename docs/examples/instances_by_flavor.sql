-- How many instances and vCPUs does each flavor have?
-- partition: month
-- At the end of the span.
SELECT flavor, count(*) AS instances, sum(vcpus) AS vcpus
FROM resource_periods
WHERE resource_type = 'instance' AND started_at < :end AND (ended_at >= :end OR ended_at IS NULL)
GROUP BY flavor
ORDER BY flavor
