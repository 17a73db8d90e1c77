-- The series that came and are not in the catalog, or have points outside of the times that it knows. Of a series that
-- was only computed so far, the resource may be new.
--
-- came: see `meterhouse/known_series.py`
INSERT INTO outside
SELECT
    n.series_id,
    n.first_point_at,
    n.last_point_at,
    CASE WHEN s.series_id IS NULL OR (
        s.resource_id IS NOT NULL
        AND s.meter IN (SELECT meter FROM derived_meters)
        AND NOT EXISTS (SELECT 1 FROM resources AS r WHERE r.source = s.source AND r.resource_id = s.resource_id)
    ) THEN 1 ELSE 0 END AS unknown
FROM came AS n
LEFT JOIN series AS s ON n.series_id = s.series_id
WHERE s.series_id IS NULL
    OR n.first_point_at < s.first_point_at
    OR n.last_point_at > s.last_point_at
    OR s.meter IN (SELECT meter FROM derived_meters)
