-- Which resources are known by events alone, and may be gone?
-- No audit and no sample has confirmed them, and no event has ended them: if their delete event was lost, they are billed until somebody looks.
-- days is for how long nothing was heard of the resource.
-- partition: day
WITH names AS MATERIALIZED (
    SELECT id, name
    FROM name_history
    WHERE kind = 'project' AND valid_from < :end AND (valid_to >= :end OR valid_to IS NULL)
)
SELECT
    p.resource_type AS resource_type,
    p.resource_id AS resource_id,
    p.name AS resource_name,
    p.project_id AS project_id,
    n.name AS project_name,
    p.flavor AS flavor,
    p.size_gib AS size_gib,
    p.state AS state,
    p.host AS host,
    p.started_at AS started_at,
    p.start_evidence AS start_evidence,
    p.confirmed_until AS confirmed_at,
    (epoch_us(:end) - epoch_us(p.confirmed_until)) / 86400000000 AS days
FROM resource_periods AS p
LEFT JOIN names AS n ON n.id = p.project_id
WHERE p.ended_at IS NULL AND p.unconfirmed AND p.started_at < :end AND p.source <> 'meterhouse-verify'
ORDER BY p.confirmed_until, byte_order(p.resource_type), byte_order(p.resource_id)
