"""The HTTP API: Ceilometer's of metering and events, and Aodh's of alarms, on Meterhouse's own figures.

server.py   the server, which listens
app.py      the application, put together
asked.py    a request: the site, who asks, and the work for the answer
entry/      what happens to every request before its path: ids, proxies, sizes, rates
access/     who asks, and what they may do
requests/   what a request says: simple and complex queries, paging, bodies
answers/    what is answered: JSON, times, errors, links
serving/    how answers are made: time limits, cancellation, kept answers
paths/      the paths, each with the questions it asks
watching/   metrics, health, the access log
"""
