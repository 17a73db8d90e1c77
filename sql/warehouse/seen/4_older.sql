-- Resources whose newest point is not good any more, and so is that of none of their series: they are what the newest other one says.
-- Without a good point they have no project, user, metadata and times.
UPDATE resources SET
    (project_id, user_id, last_sample_at, metadata_id) = (
        SELECT c.project_id, c.user_id, c.last_seen, c.metadata_id
        FROM (
            SELECT
                s.series_id, s.project_id, s.user_id, s.last_seen,
                (
                    SELECT r.metadata_id FROM rollup_1d_rows AS r
                    WHERE r.series_id = s.series_id AND r.count > 0 ORDER BY r.bucket DESC LIMIT 1
                ) AS metadata_id
            FROM series AS s
            WHERE s.source = resources.source AND s.resource_id = resources.resource_id AND s.last_seen IS NOT NULL
        ) AS c
        ORDER BY c.last_seen DESC, c.metadata_id IS NULL, c.series_id LIMIT 1
    )
FROM seen_resources AS n
WHERE n.source = resources.source AND n.resource_id = resources.resource_id
    AND (resources.last_sample_at IS NULL OR (resources.last_sample_at >= :start AND resources.last_sample_at < :end))
    AND (n.last_at IS NULL OR n.last_at < resources.last_sample_at)
    AND NOT EXISTS (
        SELECT 1 FROM series AS s
        WHERE s.source = resources.source AND s.resource_id = resources.resource_id
            AND s.last_seen = resources.last_sample_at
    )
