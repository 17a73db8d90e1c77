-- By resource: in how many hours of a day it existed by its periods, and by each witness that spoke of its type.
-- An hour in which a resource existed in part is right whatever a witness says of it.
WITH of_day AS (
    SELECT * FROM hours
),
lived AS (
    SELECT
        p.resource_type,
        p.resource_id,
        h.hour,
        any_value(p.project_id) AS project_id,
        sum(least(p.ended_us, h.hour + 3600000000) - greatest(p.started_us, h.hour)) AS micros,
        bool_or(s.state IS NOT NULL) AS may_be_silent,
        bool_or(n.state IS NOT NULL) AS nowhere,
        bool_or(p.by_events) AS by_events
    FROM periods AS p
    JOIN of_day AS h ON p.started_us < h.hour + 3600000000 AND p.ended_us > h.hour
    LEFT JOIN silent AS s ON s.resource_type = p.resource_type AND s.state = lower(p.state)
    LEFT JOIN nowhere AS n ON n.resource_type = p.resource_type AND n.state = lower(p.state)
    GROUP BY ALL
),
told AS (
    SELECT DISTINCT e.resource_type, e.resource_id, h.hour
    FROM lives AS e
    JOIN of_day AS h ON e.started_us < h.hour + 3600000000 AND e.ended_us > h.hour
),
audited AS (
    SELECT
        a.resource_type,
        a.resource_id,
        h.hour,
        max(least(a.to_us, h.hour + 3600000000) - greatest(a.from_us, h.hour)) AS micros
    FROM audits AS a
    JOIN of_day AS h ON a.from_us < h.hour + 3600000000 AND a.to_us > h.hour
    GROUP BY ALL
),
auditing AS (
    SELECT DISTINCT resource_type, hour FROM audited WHERE micros >= 3600000000
),
polling AS (
    SELECT DISTINCT resource_type, hour FROM polls
),
every AS (
    SELECT resource_type, resource_id, hour FROM lived
    UNION
    SELECT resource_type, resource_id, hour FROM told
    UNION
    SELECT resource_type, resource_id, hour FROM audited
    UNION
    SELECT resource_type, resource_id, hour FROM polls
),
said AS (
    SELECT
        e.resource_type,
        e.resource_id,
        e.hour,
        l.project_id,
        coalesce(l.micros, 0) AS micros,
        coalesce(l.micros, 0) > 0 AND coalesce(l.micros, 0) < 3600000000 AS in_part,
        l.micros IS NOT NULL AS existed,
        CASE WHEN k.resource_id IS NOT NULL THEN t.hour IS NOT NULL END AS by_events,
        -- Audits go by host.
        CASE
            WHEN g.hour IS NOT NULL AND (a.hour IS NOT NULL OR NOT coalesce(l.nowhere, FALSE)) THEN a.hour IS NOT NULL
        END AS by_audits,
        CASE
            WHEN q.hour IS NOT NULL AND (p.hour IS NOT NULL OR (w.resource_id IS NOT NULL AND NOT coalesce(l.may_be_silent, FALSE)))
                THEN p.hour IS NOT NULL
        END AS by_polls
    FROM every AS e
    LEFT JOIN lived AS l USING (resource_type, resource_id, hour)
    LEFT JOIN told AS t USING (resource_type, resource_id, hour)
    LEFT JOIN audited AS a USING (resource_type, resource_id, hour)
    LEFT JOIN polls AS p USING (resource_type, resource_id, hour)
    LEFT JOIN auditing AS g USING (resource_type, hour)
    LEFT JOIN polling AS q USING (resource_type, hour)
    LEFT JOIN (SELECT DISTINCT resource_type, resource_id FROM lives) AS k USING (resource_type, resource_id)
    LEFT JOIN polled AS w USING (resource_type, resource_id)
),
judged AS (
    SELECT
        *,
        in_part OR (
            coalesce(by_events = existed, TRUE) AND coalesce(by_audits = existed, TRUE) AND coalesce(by_polls = existed, TRUE)
        ) AS agree
    FROM said
)
SELECT
    resource_type,
    resource_id,
    any_value(project_id) AS project_id,
    sum(micros)::DOUBLE / 3600000000 AS hours,
    count(*) FILTER (by_events) AS event_hours,
    count(by_events) > 0 AS events_spoke,
    count(*) FILTER (by_audits) AS audit_hours,
    count(by_audits) > 0 AS audits_spoke,
    count(*) FILTER (by_polls) AS poll_hours,
    count(by_polls) > 0 AS polls_spoke,
    count(*) AS compared_hours,
    count(*) FILTER (agree) AS agreed_hours,
    list(extract('hour' FROM make_timestamp(hour))::INTEGER ORDER BY hour) FILTER (NOT agree AND existed AND NOT coalesce(by_events, TRUE))
        AS without_event,
    list(extract('hour' FROM make_timestamp(hour))::INTEGER ORDER BY hour) FILTER (NOT agree AND existed AND NOT coalesce(by_audits, TRUE))
        AS without_audit,
    list(extract('hour' FROM make_timestamp(hour))::INTEGER ORDER BY hour) FILTER (NOT agree AND existed AND NOT coalesce(by_polls, TRUE))
        AS without_poll,
    list(extract('hour' FROM make_timestamp(hour))::INTEGER ORDER BY hour) FILTER (NOT agree AND NOT existed) AS seen_only
FROM judged
GROUP BY resource_type, resource_id
ORDER BY resource_type, resource_id
