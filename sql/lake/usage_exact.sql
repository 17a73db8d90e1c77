-- Usage by group and bucket: the seconds in which resources existed, and hours of their sizes.
WITH pieces AS (
    SELECT
        $listed
        b.from_at AS bucket_start,
        p.resource_type || ' ' || p.resource_id AS resource,
        epoch_us(least(p.ended_at, b.to_at)) - epoch_us(greatest(p.started_at, b.from_at)) AS micros,
        coalesce(p.vcpus, 0)::DECIMAL(20, 8) AS vcpus,
        coalesce(p.memory_mib, 0)::DECIMAL(20, 8) AS memory_mib,
        coalesce(p.root_gib, 0)::DECIMAL(20, 8) AS root_gib,
        coalesce(p.ephemeral_gib, 0)::DECIMAL(20, 8) AS ephemeral_gib,
        coalesce(p.size_gib, 0)::DECIMAL(20, 8) AS size_gib
    FROM periods AS p
    JOIN buckets AS b ON p.started_at < b.to_at AND p.ended_at > b.from_at
)
SELECT
    $names
    bucket_start,
    count(DISTINCT resource) AS resources,
    sum(micros)::DOUBLE / 1000000 AS seconds,
    sum(micros)::DOUBLE / 3600000000 AS hours,
    sum(vcpus * micros::DECIMAL(18, 0))::DOUBLE / 3600000000 AS vcpu_hours,
    sum(memory_mib * micros::DECIMAL(18, 0))::DOUBLE / 3686400000000 AS memory_gib_hours,
    sum(root_gib * micros::DECIMAL(18, 0))::DOUBLE / 3600000000 AS root_gib_hours,
    sum(ephemeral_gib * micros::DECIMAL(18, 0))::DOUBLE / 3600000000 AS ephemeral_gib_hours,
    sum(size_gib * micros::DECIMAL(18, 0))::DOUBLE / 3600000000 AS size_gib_hours
FROM pieces
GROUP BY ALL
ORDER BY ALL
