"""Portkey's feedback: `base_url=https://…/-/portkey/v1`, the feedback token as Portkey's API key.

    POST /v1/feedback         one, or a list of them; `value` is -10 to 10
    PUT  /v1/feedback/{id}    another value

It has no names: above 0 is a thumb up, below 0 one down, 0 is neutral. With `portkey` in `feedback.score_names` a value
from 0 to 10 is a quality score instead.
"""

from __future__ import annotations

import math
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

_SYSTEM: Final = "portkey"
_MOST: Final = 10


def routes(box: BallotBox) -> Sequence[BaseRoute]:
    """The URLs."""
    taker = Taker(box, lambda status, message: {"status": "failure", "message": message, "error": {"message": message}})

    async def create(request: Request) -> Response:
        document = await taker.document(request)
        items = taker.batch(document, "body") if isinstance(document, list) else [document]
        ids = [taker.new_id() for _ in items]
        drafts = [partial(_vote, item, id, taker.names) for item, id in zip(items, ids, strict=True)]
        await taker.take_most(drafts, "body")
        return _answer("Feedback successfully saved", ids)

    async def update(request: Request) -> Response:
        item = as_object(await taker.document(request), "body")
        value, id = _value(item), request.path_params["id"]
        score = SentScore(system=_SYSTEM, id=id, **_meant(value, taker.names))
        await taker.take_all([partial(score.change, taker.names)])
        return _answer("Feedback successfully updated", [id])

    return [
        taker.route("POST", "/-/portkey/v1/feedback", create),
        taker.route("PUT", "/-/portkey/v1/feedback/{id:path}", update),
    ]


def _vote(item: Any, id: str, names: Names) -> Vote:
    given = as_object(item, "body")
    trace = first_text(given.get("trace_id"))
    if trace is None:
        raise VoteError("trace_id", "missing; it is what x-portkey-trace-id said of the request")
    metadata = as_object(given.get("metadata") or {}, "metadata")
    value = _value(given)
    return SentScore(
        system=_SYSTEM,
        record_id=trace,
        user=first_text(metadata.get("_user"), metadata.get("user")) or _SYSTEM,
        id=id,
        tags={"value": value, "weight": given.get("weight")},
        **_meant(value, names),
    ).vote(names)


def _meant(value: float, names: Names) -> Mapping[str, Any]:
    if _SYSTEM in names.scores and value >= 0:
        return {"name": _SYSTEM, "value": value / _MOST}
    return {"thumb": (value > 0) - (value < 0)}


def _value(item: Mapping[str, Any]) -> float:
    value = item.get("value")
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _MOST:
        return float(value)
    raise VoteError("value", f"not a number from -{_MOST} to {_MOST}")


def _answer(message: str, ids: Sequence[str]) -> Response:
    return JsonResponse({"status": "success", "message": message, "feedback_ids": list(ids)})
