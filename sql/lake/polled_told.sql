-- How many samples of each meter the notifications about a resource have yielded in a month.
SELECT e.resource_type, e.resource_id, m.meter, sum(e.reports)::BIGINT AS notifications
FROM told AS e
JOIN made AS m ON m.event_type = e.event_type
GROUP BY ALL
