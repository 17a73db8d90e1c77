-- What counters grew by in each hour, and the sums of deltas. Series of one counter that measure at the same time count once.
WITH hours AS (
    SELECT
        k.*,
        r.bucket AS hour,
        r.first_at,
        r.last_at,
        (CASE WHEN k.delta THEN r.sum ELSE r.increase END) * k.numerator / k.denominator AS amount
    FROM rollups AS r
    JOIN known AS k ON k.series_id = r.series_id
    WHERE r.granularity_s = 3600 AND r.count > 0 AND r.bucket >= $start AND r.bucket < $end
),
apart AS (
    SELECT
        *,
        CASE
            WHEN
                delta OR first_at > max(last_at) OVER (
                    PARTITION BY meter, unit, resource_id, project_id, hour
                    ORDER BY first_at, series_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                )
                THEN 1
            ELSE 0
        END AS begins
    FROM hours
    WHERE amount IS NOT NULL
),
numbered AS (
    SELECT
        *,
        sum(begins) OVER (
            PARTITION BY meter, unit, resource_id, project_id, hour
            ORDER BY first_at, series_id ROWS UNBOUNDED PRECEDING
        ) AS island
    FROM apart
),
islands AS (
    SELECT
        meter, unit, resource_id, project_id, hour, any_value(resource_type) AS resource_type, max(user_id) AS user_id,
        max(amount) AS amount
    FROM numbered
    GROUP BY meter, unit, resource_id, project_id, hour, island
),
summed AS (
    SELECT
        meter, unit, resource_id, project_id, hour, any_value(resource_type) AS resource_type, max(user_id) AS user_id,
        sum(amount) AS amount
    FROM islands
    GROUP BY meter, unit, resource_id, project_id, hour
    HAVING sum(amount) > 0
),
dated AS (
    SELECT resource_id, valid_from, metadata_id FROM history
)
SELECT s.*, t.metadata
FROM summed AS s
ASOF LEFT JOIN dated AS d ON d.resource_id = s.resource_id AND d.valid_from <= s.hour
LEFT JOIN texts AS t ON t.metadata_id = d.metadata_id
ORDER BY s.meter, s.resource_id, s.project_id, s.hour
