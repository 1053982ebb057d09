"""How records are read again: one by one, by the page, as samples, as sums over time, as an epoch of a test."""
