"""Polling: asks services and hosts for samples at fixed intervals, with a record of every slot.

`definitions` reads polling.yaml and the pollsters. `kinds` asks and reads the answers, one module a kind of pollster.
`record` keeps in the warehouse who polls what. `member` is the process that polls.
"""
