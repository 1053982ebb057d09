"""Checks of challengers as JSON and as two answers side by side: what the admin API and the console share."""
