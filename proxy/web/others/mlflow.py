"""MLflow's assessments: `MLFLOW_TRACKING_URI=https://…/-/mlflow`, the feedback token as `MLFLOW_TRACKING_TOKEN`.

    POST   /api/3.0/mlflow/traces/{trace_id}/assessments
    PATCH  /api/3.0/mlflow/traces/{trace_id}/assessments/{assessment_id}; DELETE takes it back

MLflow's client reads the whole assessment from the answer, so it gets back what it sent, with an id. An assessment that
names no source is a program's there, and so it is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from proxy.web.ballot_box import BallotBox
from proxy.web.others.scores import SentScore, as_object, first_text, removal
from proxy.web.others.taking import Taker
from proxy.web.responses import JsonResponse
from proxy.web.votes import VoteError

__all__ = ["routes"]

_SYSTEM: Final = "mlflow"
_BASE: Final = "/-/mlflow/api/3.0/mlflow/traces/{trace_id}/assessments"
_CODES: Final = {400: "INVALID_PARAMETER_VALUE", 401: "UNAUTHENTICATED", 409: "RESOURCE_CONFLICT",
                 413: "INVALID_PARAMETER_VALUE", 429: "REQUEST_LIMIT_EXCEEDED",
                 503: "TEMPORARILY_UNAVAILABLE"}  # fmt: skip
_RIGHT_ANSWER: Final = "expected_response"
"""Of the names of expectations the one that is a whole answer."""


def routes(box: BallotBox) -> Sequence[BaseRoute]:
    """The URLs."""
    api = _MLflow(Taker(box, _shape))
    return [
        api.taker.route("POST", _BASE, api.create),
        api.taker.route("PATCH", f"{_BASE}/{{assessment_id}}", api.update),
        api.taker.route("DELETE", f"{_BASE}/{{assessment_id}}", api.delete),
    ]


def _shape(status: int, message: str) -> Mapping[str, Any]:
    return {"error_code": _CODES.get(status, "BAD_REQUEST"), "message": message}


class _MLflow:
    def __init__(self, taker: Taker) -> None:
        self.taker = taker

    async def create(self, request: Request) -> Response:
        assessment = _assessment(await self.taker.document(request))
        score = _score(assessment, request.path_params["trace_id"], self.taker.new_id())
        await self.taker.take_all([partial(score.vote, self.taker.names)])
        return _answer(assessment, request, f"a-{score.id}")

    async def update(self, request: Request) -> Response:
        assessment = _assessment(await self.taker.document(request))
        assessment_id = request.path_params["assessment_id"]
        score = _score(assessment, request.path_params["trace_id"], assessment_id.removeprefix("a-"))
        await self.taker.take_all([partial(score.change, self.taker.names)])
        return _answer(assessment, request, assessment_id)

    async def delete(self, request: Request) -> Response:
        self.taker.admit(request)
        assessment_id = request.path_params["assessment_id"].removeprefix("a-")
        await self.taker.take_all([partial(removal, _SYSTEM, assessment_id)])
        return JsonResponse({})


def _assessment(document: Any) -> Mapping[str, Any]:
    return as_object(as_object(document, "body").get("assessment"), "assessment")


def _score(assessment: Mapping[str, Any], trace: str, id: str) -> SentScore:
    source = as_object(assessment.get("source") or {}, "source")
    kind = first_text(source.get("source_type")) or "CODE"
    name = first_text(assessment.get("assessment_name")) or "feedback"
    expectation = as_object(assessment.get("expectation") or {}, "expectation").get("value")
    if expectation is None and "feedback" not in assessment and "rationale" not in assessment:
        raise VoteError("assessment", "neither feedback nor an expectation")
    return SentScore(
        system=_SYSTEM,
        name=name,
        value=as_object(assessment.get("feedback") or {}, "feedback").get("value", expectation),
        other_names=(first_text(assessment.get("span_id")), trace),
        user=first_text(source.get("source_id")),
        comment=assessment.get("rationale"),
        correction=expectation if name == _RIGHT_ANSWER else None,
        by=None if kind == "HUMAN" else kind,
        id=id,
    )


def _answer(assessment: Mapping[str, Any], request: Request, assessment_id: str) -> Response:
    told = {"trace_id": request.path_params["trace_id"], **assessment, "assessment_id": assessment_id}
    if "feedback" not in told and "expectation" not in told:
        told["feedback"] = {"value": None}  # the client reads one of the two
    return JsonResponse({"assessment": told})
