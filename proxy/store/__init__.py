"""Where records, votes, statistics and the loop's own books are kept: SQLite or PostgreSQL, one set of queries.

`Store` is the door; `proxy.store.values` and `proxy.store.control` hold what goes through it. Read `schema.py`
for the tables, `ingest.py` for how a record gets in.
"""
