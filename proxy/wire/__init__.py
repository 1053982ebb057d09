"""Sans-io reading of what went over the wire: encodings, event streams, API shapes, redaction.

Bytes in, values out: no sockets, no clock, no settings beyond what an argument says. Whatever arrives,
nothing here raises on it unless its docstring says so; an unknown shape is a fact, not a failure.
"""
