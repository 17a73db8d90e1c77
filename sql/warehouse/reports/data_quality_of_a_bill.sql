-- How sure is what a bill counts?
-- confirmed_share is the part of the hours of resources that more than one witness has seen: events, the services' audits, polled samples.
-- unconfirmed_hours are of resources known by events alone whose end is not known. uncertain_hours is how far the beginnings and ends may be off, by what the witnesses allow.
-- without_size_hours are of instances without vCPUs and of volumes without a size, which no price can count.
-- agreed_share is the part of the compared hours, of all projects, on which events, audits and polls agree; empty if nothing was compared.
-- partition: month
WITH names AS MATERIALIZED (
    SELECT id, name
    FROM name_history
    WHERE kind = 'project' AND valid_from < :end AND (valid_to >= :end OR valid_to IS NULL)
),
existed AS MATERIALIZED (
    SELECT
        resource_type,
        resource_id,
        project_id,
        CASE WHEN confirmed_by LIKE '%,%' THEN 1 ELSE 0 END AS confirmed,
        CASE WHEN unconfirmed THEN 1 ELSE 0 END AS unconfirmed,
        CASE
            WHEN resource_type = 'instance' AND vcpus IS NULL THEN 1
            WHEN resource_type = 'volume' AND size_gib IS NULL THEN 1
            ELSE 0
        END AS without_size,
        CASE WHEN started_at >= :start THEN epoch_us(start_latest) - epoch_us(start_earliest) ELSE 0 END
        + CASE
            WHEN ended_at <= :end THEN coalesce(epoch_us(end_latest) - epoch_us(end_earliest), 0)
            ELSE 0
        END AS uncertain_us,
        epoch_us(CASE WHEN counted_until < :end THEN counted_until ELSE :end END)
        - epoch_us(CASE WHEN started_at > :start THEN started_at ELSE :start END) AS us
    FROM counted_periods
    WHERE started_at < :end AND (ended_at > :start OR ended_at IS NULL)
),
compared AS (
    SELECT resource_type, sum(compared_hours) AS hours, sum(agreed_hours) AS agreed
    FROM reconciliation_daily
    WHERE day >= date(:start) AND day < date(:end)
    GROUP BY resource_type
),
summed AS (
    SELECT
        project_id,
        resource_type,
        count(DISTINCT resource_id) AS resources,
        sum(us) / 3.6e9 AS hours,
        sum(confirmed * us) * 1.0 / sum(us) AS confirmed_share,
        sum(unconfirmed * us) / 3.6e9 AS unconfirmed_hours,
        sum(uncertain_us) / 3.6e9 AS uncertain_hours,
        sum(without_size * us) / 3.6e9 AS without_size_hours
    FROM existed
    WHERE us > 0
    GROUP BY project_id, resource_type
)
SELECT
    e.project_id AS project_id,
    n.name AS project_name,
    e.resource_type AS resource_type,
    e.resources AS resources,
    e.hours AS hours,
    e.confirmed_share AS confirmed_share,
    e.unconfirmed_hours AS unconfirmed_hours,
    e.uncertain_hours AS uncertain_hours,
    e.without_size_hours AS without_size_hours,
    CASE WHEN c.hours > 0 THEN c.agreed * 1.0 / c.hours END AS agreed_share
FROM summed AS e
LEFT JOIN names AS n ON n.id = e.project_id
LEFT JOIN compared AS c ON c.resource_type = e.resource_type
ORDER BY byte_order(e.project_id) NULLS LAST, byte_order(e.resource_type)
