"""What the loop does: one action at a time, under the lease, written down before and after.

`execute.py` asks whom an action concerns, `journal.py` writes intent and outcome, `routes.py` tells the workers.
"""
