"""How a batch of records and votes gets in: one transaction, begun in `batch.py`, which keeps every sum exact."""
