-- The time of each resource's first good point, with the same exceptions as for the series.
UPDATE resources SET
    first_sample_at = CASE
        WHEN n.first_at <= resources.first_sample_at THEN n.first_at
        WHEN resources.first_sample_at < :start THEN resources.first_sample_at
        ELSE (
            SELECT min(s.first_seen) FROM series AS s
            WHERE s.source = resources.source AND s.resource_id = resources.resource_id
        )
    END
FROM seen_resources AS n
WHERE n.source = resources.source AND n.resource_id = resources.resource_id
