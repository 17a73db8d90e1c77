-- Periods, cut where the metadata of their resource changed; the first description also holds for the time before it.
WITH changed AS (
    SELECT resource_id, valid_from, metadata_id
    FROM history
    QUALIFY metadata_id IS DISTINCT FROM lag(metadata_id) OVER (PARTITION BY resource_id ORDER BY valid_from)
),
valid AS (
    SELECT
        resource_id,
        metadata_id,
        CASE
            WHEN lag(valid_from) OVER w IS NULL THEN TIMESTAMPTZ '-infinity'
            ELSE valid_from
        END AS valid_from,
        coalesce(lead(valid_from) OVER w, TIMESTAMPTZ 'infinity') AS valid_to
    FROM changed
    WINDOW w AS (PARTITION BY resource_id ORDER BY valid_from)
)
SELECT
    p.* REPLACE (
        greatest(p.started_at, coalesce(v.valid_from, p.started_at)) AS started_at,
        least(p.ended_at, coalesce(v.valid_to, p.ended_at)) AS ended_at,
        p.goes_on OR p.ended_at > coalesce(v.valid_to, p.ended_at) AS goes_on
    ),
    t.metadata AS metadata
FROM plain AS p
LEFT JOIN valid AS v ON v.resource_id = p.resource_id AND v.valid_from < p.ended_at AND v.valid_to > p.started_at
LEFT JOIN texts AS t ON t.metadata_id = v.metadata_id
ORDER BY p.resource_type, p.resource_id, started_at
