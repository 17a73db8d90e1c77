-- As polled_months.sql, for series that notifications yield samples of too. Of a day with as many points as notifications
-- about the resource, none is a poll's. If the last point of a day is a notification's, the last poll was a step before.
WITH singles AS (
    SELECT e.resource_type, e.resource_id, e.event_type, e.said_at AS moment
    FROM told AS e
    SEMI JOIN known AS k ON k.resource_type = e.resource_type AND k.resource_id = e.resource_id
    WHERE e.reports = 1
),
many AS (
    SELECT
        e.resource_type,
        e.resource_id,
        e.event_type,
        e.said_at - to_microseconds((n.number * (epoch_us(e.to_at) - epoch_us(e.from_at)) // e.reports)::BIGINT) AS moment
    FROM told AS e
    SEMI JOIN known AS k ON k.resource_type = e.resource_type AND k.resource_id = e.resource_id
    CROSS JOIN LATERAL (SELECT unnest(range(e.reports)) AS number) AS n
    WHERE e.reports > 1
),
moments AS (
    SELECT t.resource_type, t.resource_id, m.meter, t.moment
    FROM (SELECT * FROM singles UNION ALL SELECT * FROM many) AS t
    JOIN made AS m ON m.event_type = t.event_type
),
counted AS (
    SELECT resource_type, resource_id, meter, moment::DATE AS day, count(*) AS notifications, max(moment) AS last_told
    FROM moments
    GROUP BY ALL
),
days AS (
    SELECT
        r.series_id,
        r.first_at,
        r.last_at,
        r.count - coalesce(c.notifications, 0) AS points,
        r.min,
        r.max,
        coalesce(r.cadence_s, 0) AS cadence_s,
        c.last_told
    FROM rollups AS r
    JOIN known AS k ON k.series_id = r.series_id
    LEFT JOIN counted AS c
        ON c.resource_type = k.resource_type AND c.resource_id = k.resource_id AND c.meter = k.meter
        AND c.day = r.bucket::DATE
    WHERE r.granularity_s = 86400 AND r.count > 0 AND r.bucket >= $start AND r.bucket < $end
)
SELECT
    series_id,
    epoch_us(min(first_at)) AS first_at,
    max(CASE
        WHEN last_at = last_told THEN greatest(epoch_us(first_at), epoch_us(last_at) - (cadence_s * 1000000)::BIGINT)
        ELSE epoch_us(last_at)
    END) AS last_at,
    sum(points)::BIGINT AS points,
    min(min) AS low,
    max(max) AS high,
    (coalesce(median(cadence_s), 0) * 1000000)::BIGINT AS step
FROM days
WHERE points > 0
GROUP BY series_id
