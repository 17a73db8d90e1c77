"""Polling: asks services and hosts for samples at fixed intervals, with a record of every slot.

In the order of the data:

- `definitions` reads polling.yaml and the pollsters; `expressions` computes what they write in Python's syntax.
  `pollster` and `polled` are the shapes that all share.
- `record` keeps in the warehouse which slots and tasks there are, and who polls what. `shards` divides what is polled.
- `discovery` finds what is polled, and `asking` asks it. `kinds` has a package for each kind of pollster, which makes
  samples of the answers.
- `batches` makes a notification of the samples. `member` is the process that claims tasks, polls, lands and records;
  `bounded` is one for a while, and `waiting` says whether there is work for one. `trying` polls without storing.
- `lateness` is how far polling is behind, and `poll_meters` the meter of it.
"""
