"""Decisions, as functions from values to values.

Standard library only: no I/O, no clock, no logging. `now` is an argument (Unix seconds, UTC), randomness is
a hash. `proxy/` observes and acts; what should be done is decided here and nowhere else.
"""
