"""Trainers, deployers and whoever else the loop talks to: each an implementation of a port (`proxy.loop.ports`)."""
