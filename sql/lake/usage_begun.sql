-- Usage by group and bucket, in hours begun: an hour counts whole for each resource that existed in it, with its largest sizes.
WITH hours AS (
    SELECT
        $listed
        h.from_at AS hour,
        p.resource_type || ' ' || p.resource_id AS resource,
        max(coalesce(p.vcpus, 0))::DECIMAL(20, 8) AS vcpus,
        max(coalesce(p.memory_mib, 0))::DECIMAL(20, 8) AS memory_mib,
        max(coalesce(p.root_gib, 0))::DECIMAL(20, 8) AS root_gib,
        max(coalesce(p.ephemeral_gib, 0))::DECIMAL(20, 8) AS ephemeral_gib,
        max(coalesce(p.size_gib, 0))::DECIMAL(20, 8) AS size_gib
    FROM periods AS p
    JOIN edges AS h ON p.started_at < h.to_at AND p.ended_at > h.from_at
    GROUP BY ALL
)
SELECT
    $names
    b.from_at AS bucket_start,
    count(DISTINCT resource) AS resources,
    count(*) AS hours_begun,
    sum(vcpus)::DOUBLE AS vcpu_hours_begun,
    sum(memory_mib)::DOUBLE / 1024 AS memory_gib_hours_begun,
    sum(root_gib)::DOUBLE AS root_gib_hours_begun,
    sum(ephemeral_gib)::DOUBLE AS ephemeral_gib_hours_begun,
    sum(size_gib)::DOUBLE AS size_gib_hours_begun
FROM hours AS h
JOIN buckets AS b ON h.hour < b.to_at AND h.hour >= b.from_at
GROUP BY ALL
ORDER BY ALL
