"""What is stored: the schema and its migrations, ids as instants, days as partitions, and rows as values."""
