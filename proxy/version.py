"""Which Ratchet this is, and how it runs."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

__all__ = ["__version__", "build"]

__version__ = "0.1.0"


def build() -> str:
    """`compiled` where the hot path is machine code, `pure` where Python runs its sources."""
    spec = find_spec("proxy.ids")
    return "compiled" if spec is not None and (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES)) else "pure"
