"""Phoenix' annotations: `PHOENIX_COLLECTOR_ENDPOINT=https://…/-/phoenix`, the feedback token as `PHOENIX_API_KEY`.

    POST /v1/span_annotations    on a span, and /v1/trace_annotations on a trace

Phoenix has one annotation for each span, name and identifier, and so is the vote here: the same three again replace it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from proxy.web.ballot_box import BallotBox
from proxy.web.others.names import Names
from proxy.web.others.scores import SentScore, as_object, first_text
from proxy.web.others.taking import Taker
from proxy.web.responses import JsonResponse
from proxy.web.votes import Vote, VoteError

__all__ = ["routes"]

_SYSTEM: Final = "phoenix"


def routes(box: BallotBox) -> Sequence[BaseRoute]:
    """The URLs."""
    taker = Taker(box, lambda status, message: {"detail": message})

    def annotations(subject: str) -> BaseRoute:
        async def annotate(request: Request) -> Response:
            document = as_object(await taker.document(request), "body")
            items = taker.batch(document.get("data"), "data")
            kept = await taker.take_most([partial(_vote, item, f"{subject}_id", taker.names) for item in items], "data")
            return JsonResponse({"data": [{"id": fid} for fid in kept]})

        return taker.route("POST", f"/-/phoenix/v1/{subject}_annotations", annotate)

    return [annotations("span"), annotations("trace")]


def _vote(item: Any, subject: str, names: Names) -> Vote:
    annotation = as_object(item, "data")
    on, name = first_text(annotation.get(subject)), first_text(annotation.get("name"))
    if on is None or name is None:
        raise VoteError(f"data.{subject}", f"{subject} and name are needed")
    result = as_object(annotation.get("result") or {}, "data.result")
    kind = first_text(annotation.get("annotator_kind")) or "CODE"
    identifier = first_text(annotation.get("identifier"))
    return SentScore(
        system=_SYSTEM,
        name=name,
        value=_value(result),
        record_id=on,
        user=identifier or _SYSTEM,
        comment=result.get("explanation"),
        by=None if kind == "HUMAN" else kind,
        id="\0".join((on, name, identifier or "")),
        tags={"label": result.get("label")},
    ).vote(names)


def _value(result: Mapping[str, Any]) -> Any:
    score = result.get("score")
    return result.get("label") if score is None else score
