-- The series of new samples, with the times of their first and last points, whether these are good or not.
SELECT
    series_id,
    any_value(source) AS source,
    any_value(meter) AS meter,
    any_value(type) AS type,
    any_value(unit) AS unit,
    any_value(resource_id) AS resource_id,
    any_value(project_id) AS project_id,
    any_value(user_id) AS user_id,
    min(timestamp) AS first_point_at,
    max(timestamp) AS last_point_at
FROM fresh
GROUP BY series_id
