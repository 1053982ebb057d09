"""What the loop sees, and shows: rows, statistics, trainer and deployer in one `Snapshot`, which has three readers.

`observe.py` makes the snapshot; `status.py`, `metrics.py` and `explain.py` show it. Nothing here has an effect.
"""
