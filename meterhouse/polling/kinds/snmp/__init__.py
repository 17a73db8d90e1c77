"""Pollsters of devices by SNMP: an object, or a column of a table with a resource for each row.

`agents` asks, by Net-SNMP (extra `snmp`): it takes a hundredth of the processor's time of a client in Python.
`pollster` makes the samples.
"""
