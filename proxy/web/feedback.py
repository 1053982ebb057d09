"""POST /-/feedback: our own form of votes. Read, check them, write them to the spool in one frame, answer 202; in that
order. One vote of a list that is wrong refuses the list. What becomes of the votes: `ballot_box.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from policies.ballots import BallotTrust, trust_in
from proxy.web.ballot_box import BallotBox
from proxy.web.counters import FEEDBACK_COUNTERS
from proxy.web.responses import ApiError, JsonResponse
from proxy.web.votes import Vote, VoteError, idle_in, parse_votes
from proxy.wire.headers import charset
from proxy.wire.lenient import read_json

__all__ = [
    "FEEDBACK_COUNTERS",
    "MAX_ANONYMOUS_BYTES",
    "MAX_BODY_BYTES",
    "FeedbackEndpoint",
    "read_body",
    "read_document",
]

MAX_BODY_BYTES: Final = 4 << 20
MAX_ANONYMOUS_BYTES: Final = 1 << 20
"""Without the token."""
_MOST_VALUES: Final = 50_000
_LONGEST_BROKEN: Final = 65536
_MOST_STRAY: Final = 2000


class FeedbackEndpoint:
    """The feedback URL of one worker."""

    def __init__(self, box: BallotBox) -> None:
        self._box = box

    async def post(self, request: Request) -> Response:
        """Answer one POST: 202, or an error that names the field."""
        try:
            trusted = self._has_token(request)
            body = await read_body(request, MAX_BODY_BYTES if trusted else MAX_ANONYMOUS_BYTES)
            return await self._accept(request, body, trusted=trusted)
        except ApiError as exc:
            refusal = self._instead(request, exc)
            self._box.refused(refusal)
            raise refusal from exc

    async def _accept(self, request: Request, body: bytes, *, trusted: bool) -> Response:
        document = read_document(body, request.headers.get("content-type", ""), trusted=trusted)
        trust = trust_in(token=trusted, anonymous=self._box.config.anonymous)
        if not trusted:
            self._box.hold_back(request, len(document) if isinstance(document, list) else 1)
        try:
            votes = parse_votes(document, self._box.config.max_batch)
        except VoteError as exc:
            raise ApiError(400, str(exc), field=exc.field) from exc
        single = not isinstance(document, list)
        places = ["" if single else f"[{index}]." for index in range(len(votes))]
        groups = []
        for checked in await self._box.check(votes, trust, places):
            if isinstance(checked, ApiError):
                raise checked
            groups.append(checked)
        fids = await self._box.keep(groups)
        answer = {"feedback_id": fids[0]} if single else {"feedback_ids": fids}
        return JsonResponse({"accepted": len(votes), **answer, **self._in_vain(votes, trust, places)}, 202)

    def _in_vain(self, votes: Sequence[Vote], trust: BallotTrust, places: Sequence[str]) -> dict[str, Any]:
        """Which fields are kept and do not count, and why; nothing where all count."""
        idle = [path + name for path, vote in zip(places, votes, strict=True) for name in idle_in(vote, trust)]
        return {"not_counted": idle, "why": self._box.without_token()} if idle else {}

    def _has_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._box.believes(given)

    def _instead(self, request: Request, refusal: ApiError) -> ApiError:
        """The refusal, or another where somebody guesses: what lacks the token and came with a wrong one."""
        if refusal.status != 403 or not self._box.config.token or "authorization" not in request.headers:
            return refusal
        return self._box.guessed(request) or refusal


async def read_body(request: Request, most: int) -> bytes:
    """The whole body; raises ApiError where it is longer than `most` bytes."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise ApiError(413, f"the body is longer than {most} bytes; send smaller batches")
    except ClientDisconnect as exc:
        raise ApiError(400, "the connection was closed before the end of the body") from exc
    return bytes(body)


def read_document(body: bytes, content_type: str, *, trusted: bool) -> Any:
    """JSON, whatever the content type says (`navigator.sendBeacon` sends text/plain), and, where that is soon done or
    somebody is trusted, however it is spelled. Raises ApiError."""
    if not trusted:
        _refuse_crowd(body)
    try:
        return (
            read_json(body, charset(content_type)) if trusted or _is_soon_read(body)
            else orjson.loads(body)
        )  # fmt: skip
    except ValueError as exc:
        raise ApiError(400, f"the body is not JSON ({exc})", field="body") from exc


def _refuse_crowd(body: bytes) -> None:
    """A stranger's body is read in the event loop: raise ApiError where it has more values than any batch of votes."""
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise ApiError(413, f"the body has more than {_MOST_VALUES} values; send smaller batches")


def _is_soon_read(body: bytes) -> bool:
    """Whether the tolerant reading, which takes a hundred times as long as the strict one, is soon done."""
    return len(body) <= _LONGEST_BROKEN and len(body) - len(body.decode("utf-8", "ignore").encode()) <= _MOST_STRAY
