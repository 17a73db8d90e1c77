-- Resources that have a newer good point, or the same one again.
-- The daily rows of releases before this one do not have the metadata: then it stays what it was.
UPDATE resources SET
    project_id = n.project_id,
    user_id = n.user_id,
    metadata_id = CASE
        WHEN n.metadata_id IS NULL AND n.last_at = resources.last_sample_at THEN resources.metadata_id
        ELSE n.metadata_id
    END,
    last_sample_at = n.last_at
FROM seen_resources AS n
WHERE n.source = resources.source AND n.resource_id = resources.resource_id
    AND (n.last_at >= resources.last_sample_at OR (resources.last_sample_at IS NULL AND n.last_at IS NOT NULL))
