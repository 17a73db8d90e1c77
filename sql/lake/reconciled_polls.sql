-- The hours of a day in which a resource has samples of pollsters. Notifications yield samples of shared meters too: as
-- many points of each as there was evidence of the resource in the hour are theirs.
CREATE TEMP TABLE polls AS
WITH told AS (
    SELECT resource_type, resource_id, epoch_us(date_trunc('hour', said_at)) AS hour, count(*) AS notifications
    FROM evidence
    WHERE said_at >= $start AND said_at < $end AND NOT (effect = 'audit' AND reports > 1)
    GROUP BY ALL
),
often AS (
    SELECT resource_type, resource_id, epoch_us(from_at) AS from_us, epoch_us(to_at) AS to_us
    FROM evidence
    WHERE
        effect = 'audit' AND reports > 1 AND from_at < $end AND to_at > $start
        AND epoch_us(to_at) - epoch_us(from_at) <= reports * 3600000000
),
rolled AS (
    SELECT k.resource_type, k.resource_id, k.meter, k.shared, epoch_us(r.bucket) AS hour, sum(r.count) AS points
    FROM rollups AS r
    JOIN known AS k ON k.series_id = r.series_id
    WHERE r.granularity_s = 3600 AND r.count > 0 AND r.bucket >= $start AND r.bucket < $end
    GROUP BY ALL
)
SELECT DISTINCT r.resource_type, r.resource_id, r.hour
FROM rolled AS r
LEFT JOIN told AS t ON t.resource_type = r.resource_type AND t.resource_id = r.resource_id AND t.hour = r.hour
WHERE
    NOT r.shared
    OR r.points > coalesce(t.notifications, 0) + (
        SELECT count(*)
        FROM often AS o
        WHERE
            o.resource_type = r.resource_type AND o.resource_id = r.resource_id
            AND o.from_us < r.hour + 3600000000 AND o.to_us > r.hour
    )
