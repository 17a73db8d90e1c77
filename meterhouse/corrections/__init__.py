"""Corrections: points of a meter that a person deletes, replaces or accepts, over a span of time and by a condition.

    recorded.py   what a correction is, and those that the warehouse has
    applying.py   points as corrected, in DuckDB and in NumPy
    changing.py   records and revokes corrections, and marks the event hours that this changes

Samples stay in the lake as they were landed. A correction takes effect when points are read to be judged: so it holds
for late, loaded and reconverted points too, keeps what it replaces, and leaves nothing once it is revoked.
"""
