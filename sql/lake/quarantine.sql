-- The points that break a rule, with everything that is needed to judge them again.
--
-- In:  verdicts (judge.sql), points (columns of samples)
SELECT
    v.timestamp::DATE AS event_day,
    v.series_id, v.timestamp, v.volume, v.sample_id, v.recorded_at,
    p.source, p.meter, p.type, p.unit, p.resource_id, p.project_id, p.user_id,
    v.bits AS reasons,
    $reason_names AS reason_names,
    v.bits & $critical != 0 AS excluded
FROM verdicts AS v
JOIN (
    SELECT
        series_id, any_value(source) AS source, any_value(meter) AS meter, any_value(type) AS type,
        any_value(unit) AS unit, any_value(resource_id) AS resource_id, any_value(project_id) AS project_id,
        any_value(user_id) AS user_id
    FROM points SEMI JOIN (SELECT series_id FROM verdicts WHERE bits != 0) USING (series_id)
    GROUP BY series_id
) AS p USING (series_id)
WHERE v.bits != 0 AND $wanted
ORDER BY v.series_id, v.timestamp
