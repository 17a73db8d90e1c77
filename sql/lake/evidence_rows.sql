-- The evidence of some resources in order, as numbers: by these, audits in a row that say the same are found.
SELECT
    rowid AS place,
    hash(resource_type, resource_id) AS resource,
    effect = 'audit' AS is_audit,
    epoch_us(said_at) AS said_at,
    epoch_us(from_at) AS from_at,
    epoch_us(to_at) AS to_at,
    reports,
    hash(
        began_at, created_at, ended_at, project_id, user_id, name, flavor, state, host, zone, image,
        vcpus, memory_mib, root_gib, ephemeral_gib, size_gib, measures, reporter, source
    ) AS what
FROM chosen
ORDER BY resource, said_at, effect, message_id
