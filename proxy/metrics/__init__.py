"""Metrics: counters that workers share through files, what ingest counts per record, and how both are rendered."""
