-- The resources of new samples, as of their newest sample: what a new one is until its points are judged.
SELECT
    source,
    resource_id,
    arg_max(project_id, timestamp) AS project_id,
    arg_max(user_id, timestamp) AS user_id,
    arg_max(metadata_id, timestamp) AS metadata_id
FROM fresh
WHERE resource_id IS NOT NULL
GROUP BY source, resource_id
