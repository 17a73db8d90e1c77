-- The resources of new samples, as of their newest sample: what a new one is until its points are judged.
-- A sample of more than an hour ahead comes from a wrong clock, and counts only if there is no other.
--
-- runs: see `meterhouse/arrivals.py`
SELECT
    source,
    resource_id,
    arg_max(project_id, known_at) AS project_id,
    arg_max(user_id, known_at) AS user_id,
    arg_max(metadata_id, CASE WHEN ahead THEN TIMESTAMPTZ '1970-01-01 00:00:00+00' ELSE described_at END)
        AS metadata_id
FROM (SELECT *, CASE WHEN ahead THEN TIMESTAMPTZ '1970-01-01 00:00:00+00' ELSE last_at END AS known_at FROM runs)
WHERE resource_id IS NOT NULL
GROUP BY source, resource_id
