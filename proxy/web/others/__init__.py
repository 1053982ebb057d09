"""Votes in the words of other systems' clients: a module for each, all on the one way of votes (`ballot_box`).

Who votes with such a client changes its base URL, and gives it the feedback token as its key. `names.py` says which
scores count, `scores.py` makes votes of them, `taking.py` is what all URLs share.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from proxy.web.ballot_box import BallotBox
from proxy.web.others import assistant_ui, helicone, langfuse, langsmith, mlflow, otlp, phoenix, portkey

__all__ = ["other_routes"]


def other_routes(box: BallotBox) -> list[BaseRoute]:
    """The URLs of all systems."""
    systems: Sequence[Sequence[BaseRoute]] = [
        system.routes(box) for system in (langfuse, langsmith, mlflow, phoenix, portkey, helicone, assistant_ui, otlp)
    ]
    return [route for system in systems for route in system]
