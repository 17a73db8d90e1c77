-- Statistics of points by period, group, unit and type, as Ceilometer's v2 API returns them.
--
-- In: selected (timestamp, volume: null if no sum can hold it, unit, type, and the columns to group by)
-- Placeholders: the columns to group by, and the start of a point's period.
SELECT
    $groups
    $period_start AS period_start,
    unit,
    type,
    count(*) AS count,
    fsum(volume) AS sum,
    fsum(volume) / count(volume) AS avg,
    min(volume) AS min,
    max(volume) AS max,
    stddev_pop(volume) AS stddev,
    min(timestamp) AS duration_start,
    max(timestamp) AS duration_end
FROM selected
GROUP BY ALL
ORDER BY ALL
