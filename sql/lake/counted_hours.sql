-- What counters grew by in each hour, and the sums of deltas. Series of one counter count once where they measure at the
-- same time: the growth of each hour since the series' point before is cut to what no other series has told of yet. Of
-- series of deltas, those that say the same of the same points in an hour count once.
WITH hours AS (
    SELECT
        k.*,
        r.bucket AS hour,
        -- The growth of an hour goes back to the last point before it, if that is not too long ago.
        epoch_us(
            CASE
                WHEN lag(r.last_at) OVER w >= r.bucket - to_hours($carry) THEN lag(r.last_at) OVER w
                ELSE r.first_at
            END
        ) AS since,
        epoch_us(r.first_at) AS first_at,
        epoch_us(r.last_at) AS until,
        r.count AS points,
        (CASE WHEN k.delta THEN r.sum ELSE r.increase END) * k.numerator / k.denominator AS grown
    FROM rollups AS r
    JOIN known AS k ON k.series_id = r.series_id
    WHERE
        r.granularity_s = 3600 AND r.count > 0 AND r.bucket < $end
        AND r.bucket >= $start - to_hours(CASE WHEN k.several THEN $carry ELSE 0 END)
    WINDOW w AS (PARTITION BY r.series_id ORDER BY r.bucket)
),
deltas AS (
    SELECT
        *,
        lag(grown) OVER (
            PARTITION BY meter, unit, resource_id, project_id, hour, first_at, until, points ORDER BY grown, series_id
        ) AS same
    FROM hours
    WHERE several AND delta AND grown IS NOT NULL
),
told AS (
    SELECT
        *,
        max(until) OVER (
            PARTITION BY meter, unit, resource_id, project_id
            ORDER BY until, series_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS told_until
    FROM hours
    WHERE several AND NOT delta AND grown IS NOT NULL
),
alone AS (
    SELECT meter, unit, resource_type, resource_id, project_id, user_id, hour, grown AS amount
    FROM hours
    WHERE NOT several AND grown IS NOT NULL
    UNION ALL
    SELECT meter, unit, resource_type, resource_id, project_id, user_id, hour, grown AS amount
    FROM deltas
    WHERE same IS NULL OR grown - same > 1e-9 * abs(grown)
    UNION ALL
    SELECT
        meter,
        unit,
        resource_type,
        resource_id,
        project_id,
        user_id,
        hour,
        CASE
            WHEN told_until IS NULL OR told_until <= since THEN grown
            WHEN until <= told_until THEN 0
            ELSE grown * (until - told_until) / (until - since)
        END AS amount
    FROM told
),
summed AS (
    SELECT
        meter, unit, resource_id, project_id, hour, any_value(resource_type) AS resource_type, max(user_id) AS user_id,
        sum(amount) AS amount
    FROM alone
    WHERE hour >= $start
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
