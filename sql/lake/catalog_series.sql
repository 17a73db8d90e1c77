-- The series of new samples, with the times of their first and last points, whether these are good or not.
--
-- runs: see `meterhouse/arrivals.py`
SELECT
    series_id,
    any_value(source) AS source,
    any_value(meter) AS meter,
    any_value(type) AS type,
    any_value(unit) AS unit,
    any_value(resource_id) AS resource_id,
    any_value(project_id) AS project_id,
    any_value(user_id) AS user_id,
    min(first_at) AS first_point_at,
    max(last_at) AS last_point_at
FROM runs
GROUP BY series_id
