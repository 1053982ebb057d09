"""Helicone's feedback: its host becomes `https://…/-/helicone`, the feedback token its API key.

    POST /v1/request/{id}/feedback   {"rating": true | false}
    POST /v1/request/{id}/score      {"scores": {name: whole number or boolean}}

`id` is what the client sent as `helicone-request-id`, or another name of the record. Scores are whole numbers there:
one in `feedback.score_names` is of a hundred. A rating replaces the one before it, as scores of the same name do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from proxy.web.ballot_box import BallotBox
from proxy.web.others.scores import SentScore, as_object
from proxy.web.others.taking import Taker
from proxy.web.responses import JsonResponse
from proxy.web.votes import VoteError

__all__ = ["routes"]

_SYSTEM: Final = "helicone"
_WHOLE: Final = 100


def routes(box: BallotBox) -> Sequence[BaseRoute]:
    """The URLs."""
    taker = Taker(box, lambda status, message: {"data": None, "error": message})

    async def rate(request: Request) -> Response:
        rating = as_object(await taker.document(request), "body").get("rating")
        if not isinstance(rating, bool):
            raise VoteError("rating", "not true or false")
        on = request.path_params["id"]
        score = SentScore(system=_SYSTEM, thumb=1 if rating else -1, record_id=on, user=_SYSTEM, id=on)
        await taker.take_all([partial(score.vote, taker.names)])
        return JsonResponse({"data": None, "error": None})

    async def score(request: Request) -> Response:
        given = as_object(as_object(await taker.document(request), "body").get("scores"), "scores")
        on = request.path_params["id"]
        scores = [
            SentScore(
                system=_SYSTEM,
                name=name,
                value=_of_hundred(value, scored=name.casefold() in taker.names.scores),
                record_id=on,
                user=_SYSTEM,
                id=f"{on}\0{name}",
            )
            for name, value in taker.batch(list(given.items()), "scores")
        ]
        await taker.take_most([partial(one.vote, taker.names) for one in scores], "scores")
        return JsonResponse({"data": None, "error": None})

    return [
        taker.route("POST", "/-/helicone/v1/request/{id:path}/feedback", rate),
        taker.route("POST", "/-/helicone/v1/request/{id:path}/score", score),
    ]


def _of_hundred(value: Any, *, scored: bool) -> Any:
    if scored and isinstance(value, int | float) and not isinstance(value, bool):
        return value / _WHOLE
    return value
