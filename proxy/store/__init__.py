"""Where records, votes, statistics and the loop's own tables are kept: SQLite or PostgreSQL, one set of queries.

`Store` is the door; `tables/values.py` and `tables/control.py` hold what goes through it. Read `tables/schema.py` for
the tables and `ingest/batch.py` for how a record gets in. The rooms, each importing only from those after it:
`archive`, `store`, `retention` beside `control`, `reading`, `ingest`, `tables`, `engine`.
"""
