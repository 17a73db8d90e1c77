-- The names in landed notifications: what each project, user, flavor, image and volume type was called, and from when
-- until when messages say so.
--
-- `landed` has timestamp, received_at, event_type and body of notifications. A message whose own time is more than a
-- day after its arrival counts from its arrival. A body is parsed once for all its fields, `f`.
WITH timed AS (
    SELECT
        CASE
            WHEN "timestamp" IS NULL OR "timestamp" > received_at + INTERVAL 1 DAY THEN received_at
            ELSE "timestamp"
        END AS said_at,
        event_type, body
    FROM landed
),
messages AS MATERIALIZED (
    SELECT
        said_at,
        event_type,
        TRY(json_extract_string(body, [
            '$._context_project_id', '$._context_tenant', '$._context_tenant_id', '$._context_project',     -- 1 to 4
            '$._context_project_name', '$._context_tenant_name', '$._context_project_domain_name',          -- 5 to 7
            '$._context_user_id', '$._context_user',                                                        -- 8, 9
            '$._context_user_name', '$._context_username', '$._context_user_domain_name',                   -- 10 to 12
            '$.payload.instance_flavor_id', '$.payload.instance_type',                                      -- 13, 14
            '$.payload."nova_object.data".flavor."nova_object.data".flavorid',
            '$.payload."nova_object.data".flavor."nova_object.data".name',                                  -- 16
            '$.payload."nova_object.data".new_flavor."nova_object.data".flavorid',
            '$.payload."nova_object.data".new_flavor."nova_object.data".name',                              -- 18
            '$.payload."nova_object.data".flavorid', '$.payload."nova_object.data".name',                   -- 19, 20
            '$.payload.initiator.user_id', '$.payload.initiator.id', '$.payload.initiator.username',        -- 21 to 23
            '$.payload.id', '$.payload.name',                                                               -- 24, 25
            '$.payload.volume_types.id', '$.payload.volume_types.name'                                      -- 26, 27
        ])) AS f
    FROM timed WHERE event_type NOT LIKE 'telemetry.%'
),
polled AS MATERIALIZED (
    SELECT
        said_at,
        unnest(TRY(from_json(json_extract(body, '$.payload.samples'), '[{
            "project_id": "VARCHAR", "project_name": "VARCHAR", "user_id": "VARCHAR", "user_name": "VARCHAR",
            "resource_metadata": {"flavor": "JSON"}
        }]'))) AS s
    FROM timed WHERE event_type LIKE 'telemetry.%'
),
named AS (
    SELECT 'project' AS kind, coalesce(f[1], f[2], f[3], f[4]) AS id, coalesce(f[5], f[6]) AS name,
        f[7] AS domain_name, said_at
    FROM messages
    UNION ALL
    SELECT 'user', coalesce(f[8], f[9]), coalesce(f[10], f[11]), f[12], said_at FROM messages
    UNION ALL
    SELECT 'flavor', f[13], f[14], NULL, said_at FROM messages WHERE event_type LIKE 'compute.instance.%'
    UNION ALL
    SELECT 'flavor', f[15], f[16], NULL, said_at FROM messages WHERE event_type LIKE 'instance.%'
    UNION ALL
    SELECT 'flavor', f[17], f[18], NULL, said_at FROM messages WHERE event_type LIKE 'instance.%'
    UNION ALL
    SELECT 'flavor', f[19], f[20], NULL, said_at FROM messages WHERE event_type LIKE 'flavor.%'
    UNION ALL
    SELECT 'user', coalesce(f[21], f[22]), f[23], NULL, said_at FROM messages WHERE event_type LIKE 'identity.%'
    UNION ALL
    SELECT 'image', f[24], f[25], NULL, said_at FROM messages WHERE event_type LIKE 'image.%'
    UNION ALL
    SELECT 'volume_type', f[26], f[27], NULL, said_at FROM messages WHERE event_type LIKE 'volume_type.%'
    UNION ALL
    SELECT 'project', s.project_id, s.project_name, NULL, said_at FROM polled
    UNION ALL
    SELECT 'user', s.user_id, s.user_name, NULL, said_at FROM polled
    UNION ALL
    SELECT 'flavor', s.resource_metadata.flavor ->> '$.id', s.resource_metadata.flavor ->> '$.name', NULL, said_at
    FROM polled
)
SELECT kind, id, name, max(domain_name) AS domain_name, min(said_at) AS first_at, max(said_at) AS last_at
FROM named
WHERE name <> id AND id <> '' AND name <> '' AND length(id) <= 1000 AND length(name) <= 1000
GROUP BY kind, id, name
