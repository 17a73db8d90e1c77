-- The time of each resource's first good point, unless it is of a day before and no earlier one came.
UPDATE resources SET
    first_sample_at = CASE
        WHEN n.first_at <= resources.first_sample_at THEN n.first_at
        ELSE (
            SELECT min(s.first_seen) FROM series AS s
            WHERE s.source = resources.source AND s.resource_id = resources.resource_id
        )
    END
FROM seen_resources AS n
WHERE n.source = resources.source AND n.resource_id = resources.resource_id
    AND (
        resources.first_sample_at IS NULL OR resources.first_sample_at >= :start
        OR n.first_at < resources.first_sample_at
    )
