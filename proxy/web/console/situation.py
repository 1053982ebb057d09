"""What a person should know before an order: which models it is about, what speaks for it, what will happen.

The dialog of an order asks for it when it opens. It says what the status says, and nothing that is decided here.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.experiment import ABTestConfig, Verdict
from policies.guardrails import GuardrailState
from policies.lifecycle import Phase
from policies.vocabulary import Verb
from proxy.status import Status
from proxy.web.console.page import Console

__all__ = ["situation", "situation_routes"]

_TESTED: Final = (Phase.TESTING, Phase.PROMOTING)


def situation_routes(console: Console) -> list[Route]:
    """GET /actions/about/{verb}: empty (204) where there is nothing to say."""

    async def about(request: Request) -> Response:
        status = await console.status()
        found = situation(status, request.path_params["verb"], console.services.config.ab_test_config)
        if found is None:
            return Response(status_code=204)
        return await console.partial("situation.html", {"status": status, **found})

    return [Route("/actions/about/{verb}", about)]


def situation(status: Status, verb: str, rules: ABTestConfig) -> dict[str, Any] | None:
    """What the dialog of `verb` shows; None where the models are no matter of it, or it does not fit the phase."""
    if status.champion is None:
        return None
    names = {"champion": status.champion.name, "challenger": status.challenger.name if status.challenger else None}
    if status.phase.name in _TESTED and status.challenger is not None and verb in (Verb.PROMOTE, Verb.ROLLBACK):
        return {"about": verb, **names, "old": None, "rules": rules, **_evidence(status)}
    if status.phase.name == Phase.WATCHING and status.previous is not None and verb == Verb.ROLLBACK:
        return {"about": "return", **names, "old": status.previous.name, "rules": rules, **_evidence(status)}
    return None


def _evidence(status: Status) -> dict[str, Any]:
    found = status.experiment.assessment if status.experiment else None
    if found is None:
        return {"evidence": None, "missing": (), "broken": ()}
    broken = [rail for rail in found.guardrails if rail.state in (GuardrailState.BLOCK, GuardrailState.ROLL_BACK)]
    missing = () if found.verdict is Verdict.PROMOTE else found.reasons
    return {"evidence": found, "missing": missing, "broken": broken}
