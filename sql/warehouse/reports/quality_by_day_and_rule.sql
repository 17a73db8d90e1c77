-- Which points broke which quality rule, and how many?
SELECT q.day AS day, q.meter AS meter, q.rule AS rule, q.severity AS severity, sum(q.flagged) AS flagged
FROM quality_daily AS q
WHERE q.hour >= :start AND q.hour < :end
GROUP BY q.day, q.meter, q.rule, q.severity
ORDER BY q.day, byte_order(q.meter), byte_order(q.rule), byte_order(q.severity)
