"""The functional suite for a site that is in use: what is sent into its stream comes out of its API, and rings.

suite.py     the checks, in order
findings.py  what a check finds
asking.py    the API, as its clients see it
access.py    who asks: headers, or a token of Keystone
sent.py      what is sent: a notification and polled samples, all marked
reaching.py  checks: the API, its parts, versions and clocks
arriving.py  checks: samples, event, statistic, quality, resource
ringing.py   checks: an alarm that fires and recovers
left_out.py  checks: that nothing of it is seen by others

All that is sent carries the source `meterhouse-verify`, see `meterhouse/verification.py`.
"""
