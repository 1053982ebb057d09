"""What a test needs from the machine it runs on.

On a developer's machine a missing server skips the test and says so; with RATCHET_REQUIRE=all, as in CI, it fails: a
suite that skips silently proves nothing. RATCHET_FULL=1 adds what costs much and whose promise a cheaper test has.
"""

from __future__ import annotations

import os

import pytest

__all__ = ["FULL", "full", "need"]

FULL = os.environ.get("RATCHET_FULL") == "1"
"""Whether this is the run that may take as long as it likes."""


def full(instead: str) -> pytest.MarkDecorator:
    """Mark a test for RATCHET_FULL=1 alone. `instead`: what has its promise in every run."""
    return pytest.mark.skipif(not FULL, reason=f"RATCHET_FULL=1 has it; every run has {instead}")


def need(what: str, present: bool, *, extra: bool = False) -> None:
    """Skip the test where `what` is not `present`; fail where RATCHET_REQUIRE is `all` or names it (with commas).

    An `extra` is something that not even CI installs, because of its size or of what it needs: only naming it makes it
    required.
    """
    if present:
        return
    required = os.environ.get("RATCHET_REQUIRE", "").split(",")
    if what in required or ("all" in required and not extra):
        pytest.fail(f"{what} is required (RATCHET_REQUIRE) and is not here", pytrace=False)
    pytest.skip(f"{what} is not here")
