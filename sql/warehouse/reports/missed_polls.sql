-- Which slots of polling were missed, by day and source, and why?
-- A slot that is divided among several tasks counts for each of them that was missed. pollsters: how many had missed slots.
-- last_reason is that of the latest one. Days for which the record is not kept any more have no rows (METERHOUSE_POLL_RECORD_DAYS).
WITH missed AS (
    SELECT
        date(slot_at) AS day,
        source,
        pollster,
        slots,
        error,
        row_number() OVER (PARTITION BY date(slot_at), source ORDER BY slot_at DESC, task_id DESC) AS newest
    FROM poll_tasks
    WHERE state = 'missed' AND slot_at >= :start AND slot_at < :end
)
SELECT
    day,
    source,
    count(DISTINCT pollster) AS pollsters,
    sum(slots) AS missed_slots,
    max(CASE WHEN newest = 1 THEN error END) AS last_reason
FROM missed
GROUP BY day, source
ORDER BY day, byte_order(source)
