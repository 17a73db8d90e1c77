-- Resources whose newest point is not good any more, and so is that of none of their series: they are what the newest other one says.
-- Without a good point they have no project, user and times. The metadata follows when the day of the point is rolled up.
UPDATE resources SET
    (project_id, user_id, last_sample_at) = (
        SELECT s.project_id, s.user_id, s.last_seen FROM series AS s
        WHERE s.source = resources.source AND s.resource_id = resources.resource_id AND s.last_seen IS NOT NULL
        ORDER BY s.last_seen DESC, s.series_id LIMIT 1
    ),
    metadata_id = NULL
FROM seen_resources AS n
WHERE n.source = resources.source AND n.resource_id = resources.resource_id
    AND (resources.last_sample_at IS NULL OR (resources.last_sample_at >= :start AND resources.last_sample_at < :end))
    AND (n.last_at IS NULL OR n.last_at < resources.last_sample_at)
    AND NOT EXISTS (
        SELECT 1 FROM series AS s
        WHERE s.source = resources.source AND s.resource_id = resources.resource_id
            AND s.last_seen = resources.last_sample_at
    )
RETURNING resources.last_sample_at
