"""The database itself: connections, transactions, and what it says when it cannot do its work. Knows no table."""
