-- Each resource of the series in `seen`, by its newest good point in these days; without times if it has none.
CREATE TEMP TABLE seen_resources AS
SELECT source, resource_id, project_id, user_id, metadata_id, first_at, last_at
FROM (
    SELECT
        s.source, s.resource_id, s.project_id, s.user_id, n.metadata_id, n.last_at,
        min(n.first_at) OVER (PARTITION BY s.source, s.resource_id) AS first_at,
        row_number() OVER (
            PARTITION BY s.source, s.resource_id
            ORDER BY n.last_at IS NULL, n.last_at DESC, n.metadata_id IS NULL, s.series_id
        ) AS place
    FROM seen AS n JOIN series AS s ON s.series_id = n.series_id
    WHERE s.resource_id IS NOT NULL
) AS ranked
WHERE place = 1
