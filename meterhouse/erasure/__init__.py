"""Erasure of a user's personal data: a pseudonym comes in place of the id, wherever the site stores it.

    recorded.py          who was erased, by a salted hash of the id
    renamed.py           the series and snapshots of metadata that get other ids
    lake_rows.py         rows of the lake's tables
    warehouse_rows.py    rows of the warehouse's tables
    files.py             the spool, and exported reports
    remains.py           files and commits that still hold what was replaced
    erase.py             the steps in order
    again.py             the same after a restore, by the hashes of ids

Points, volumes and projects stay, so every sum and bill does. Nothing remembers which parts are done: each run looks at
everything, and changes what is left. So a run that was killed is repeated with the same command.
"""
