"""What the loop does: one action at a time, under the lease, written down before and after.

`perform.py` knows who performs which action, `journal.py` writes intent and outcome, `publisher.py` tells the workers.
"""
