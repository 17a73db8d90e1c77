-- The evidence of some resources in a month, in the order of resource and time. Audits in a row that say the same are one row.
WITH chosen AS (
    SELECT
        *,
        hash(
            began_at, created_at, ended_at, project_id, user_id, name, flavor, state, host, zone, image,
            vcpus, memory_mib, root_gib, ephemeral_gib, size_gib, measures, reporter, source
        ) AS what
    FROM evidence
    WHERE hash(resource_id) % $parts = $part
),
marked AS (
    SELECT
        *,
        CASE
            WHEN
                effect = 'audit' AND lag(effect) OVER w = 'audit' AND what = lag(what) OVER w
                AND from_at <= lag(to_at) OVER w
                AND (epoch_us(to_at) - epoch_us(from_at)) % 3600000000 = 0
                AND (epoch_us(lag(to_at) OVER w) - epoch_us(lag(from_at) OVER w)) % 3600000000 = 0
                THEN 0
            ELSE 1
        END AS starts
    FROM chosen
    WINDOW w AS (PARTITION BY resource_type, resource_id ORDER BY said_at, effect, message_id)
),
counted AS (
    SELECT
        *,
        -- An audit that was read twice, or lies in a run that was put together before, counts for what is new in it.
        CASE
            WHEN starts = 1 THEN reports
            WHEN to_at <= lag(to_at) OVER w THEN 0
            ELSE round(
                reports * (epoch_us(to_at) - greatest(epoch_us(from_at), epoch_us(lag(to_at) OVER w)))
                / (epoch_us(to_at) - epoch_us(from_at))
            )::BIGINT
        END AS new_reports
    FROM marked
    WINDOW w AS (PARTITION BY resource_type, resource_id ORDER BY said_at, effect, message_id)
),
numbered AS (
    SELECT
        *,
        sum(starts) OVER (
            PARTITION BY resource_type, resource_id ORDER BY said_at, effect, message_id ROWS UNBOUNDED PRECEDING
        ) AS run
    FROM counted
)
SELECT
    any_value(event_day) AS event_day,
    resource_type,
    resource_id,
    any_value(effect) AS effect,
    max(said_at) AS said_at,
    min(from_at) AS from_at,
    max(to_at) AS to_at,
    sum(new_reports)::BIGINT AS reports,
    any_value(began_at) AS began_at,
    any_value(created_at) AS created_at,
    any_value(ended_at) AS ended_at,
    min_by(message_id, said_at) AS message_id,
    max_by(last_message_id, said_at) AS last_message_id,
    any_value(event_type) AS event_type,
    any_value(reporter) AS reporter,
    any_value(source) AS source,
    any_value(project_id) AS project_id,
    any_value(user_id) AS user_id,
    any_value(name) AS name,
    any_value(flavor) AS flavor,
    any_value(state) AS state,
    any_value(host) AS host,
    any_value(zone) AS zone,
    any_value(image) AS image,
    any_value(vcpus) AS vcpus,
    any_value(memory_mib) AS memory_mib,
    any_value(root_gib) AS root_gib,
    any_value(ephemeral_gib) AS ephemeral_gib,
    any_value(size_gib) AS size_gib,
    any_value(measures) AS measures
FROM numbered
GROUP BY resource_type, resource_id, run
ORDER BY resource_type, resource_id, said_at, run
