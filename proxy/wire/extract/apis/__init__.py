"""The API shapes, one module each: all that Ratchet knows of an API stands there.

A module declares a `Shape` (paths, parsers, stream, reader of its conversation) and its `Kind`, and has a line in
`proxy.wire.extract.shapes`, the list in which shapes are tried. Two shapes of one API may share a module. A reader of
conversations that is long, or shared, has a module in `conversations`.
"""
