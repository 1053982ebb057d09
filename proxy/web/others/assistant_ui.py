"""assistant-ui's cloud: its base URL becomes `https://…/-/assistant-ui`, for a back end that holds the feedback token.

    POST /v1/threads/{thread}/messages/{message}/feedback   {"type": "positive" | "negative", "comment"?}

The message's id is the record's other name; `aui-user-id` says who votes, as its client does with an API key. That
client checks the answer's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from proxy.web.ballot_box import BallotBox
from proxy.web.others.scores import SentScore, as_object
from proxy.web.others.taking import Taker
from proxy.web.responses import JsonResponse
from proxy.web.votes import VoteError

__all__ = ["routes"]

_SYSTEM: Final = "assistant-ui"
_TYPES: Final = {"positive": 1, "negative": -1}


def routes(box: BallotBox) -> Sequence[BaseRoute]:
    """The URL."""
    taker = Taker(box, lambda status, message: {"message": message, "error": message})

    async def submit(request: Request) -> Response:
        given = as_object(await taker.document(request), "body")
        kind, comment = given.get("type"), given.get("comment")
        if not isinstance(kind, str) or kind not in _TYPES:
            raise VoteError("type", 'not "positive" or "negative"')
        thread, message = request.path_params["thread"], request.path_params["message"]
        score = SentScore(
            system=_SYSTEM,
            thumb=_TYPES[kind],
            record_id=message,
            user=request.headers.get("aui-user-id") or _SYSTEM,
            comment=comment,
            id=f"{thread}\0{message}",
        )
        [fid] = await taker.take_all([partial(score.vote, taker.names)])
        said = {"comment": comment} if isinstance(comment, str) else {}
        return JsonResponse({"feedback_id": fid, "type": kind, **said})

    return [taker.route("POST", "/-/assistant-ui/v1/threads/{thread}/messages/{message}/feedback", submit)]
