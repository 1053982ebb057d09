"""Thumbs that people give in Open WebUI: its API is asked for them, and its webhook rings the bell."""
