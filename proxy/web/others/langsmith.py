"""LangSmith's feedback: `LANGSMITH_ENDPOINT=https://…/-/langsmith`, the feedback token as API key.

    POST   /feedback                 one feedback
    PATCH  /feedback/{id}            changed fields; DELETE takes it back
    POST   /feedback/tokens          a URL for one vote, without a key (`presigned.py`); also a list of them
    POST   /feedback/tokens/{token}  the vote; GET takes the same fields from the query
    POST   /runs/multipart           parts named `feedback.…` are votes; runs are dropped, as in /runs, /runs/batch
    GET    /info                     no more than that: what is not offered, the SDK does not use

Each also with /api/v1 before it, as self-hosted ones have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from policies.ballots import trust_in
from proxy.ids import ForgedIdError
from proxy.web.ballot_box import BallotBox
from proxy.web.feedback import MAX_ANONYMOUS_BYTES, read_body, read_document
from proxy.web.others import presigned
from proxy.web.others.names import Names
from proxy.web.others.scores import SentScore, as_object, first_text, removal
from proxy.web.others.taking import Draft, Taker
from proxy.web.responses import ApiError, JsonResponse
from proxy.web.votes import Vote, VoteError

__all__ = ["routes"]

_SYSTEM: Final = "langsmith"
_MAX_RUNS_BYTES: Final = 20 << 20
_MOST_PARTS: Final = 100_000
_USER: Final = ("user", "user_id", "userId")
_BY_URL: Final = "presigned URL"
"""Who votes by one: whoever that is, an answer has one vote from all of them, the last one."""
_BOUNDARY: Final = re.compile(r'boundary="?([^";,\s]{1,70})"?', re.ASCII)
_PART: Final = re.compile(rb'name="feedback\.[^"]*"', re.IGNORECASE)


def routes(box: BallotBox) -> Sequence[BaseRoute]:
    """The URLs."""
    api = _LangSmith(Taker(box, lambda status, message: {"detail": message}))
    urls = [
        ("GET", "/info", api.info),
        ("POST", "/feedback", api.create),
        ("POST", "/feedback/tokens", api.tokens),
        ("POST", "/feedback/tokens/{token}", api.presigned_post),
        ("GET", "/feedback/tokens/{token}", api.presigned_get),
        ("PATCH", "/feedback/{id:path}", api.update),
        ("DELETE", "/feedback/{id:path}", api.delete),
        ("POST", "/runs/multipart", api.multipart),
        ("POST", "/runs/batch", api.runs),
        ("POST", "/runs", api.runs),
        ("PATCH", "/runs/{id}", api.runs),
    ]
    return [
        api.taker.route(method, f"/-/langsmith{prefix}{path}", handler)
        for prefix in ("", "/api/v1")
        for method, path, handler in urls
    ]


class _LangSmith:
    def __init__(self, taker: Taker) -> None:
        self.taker = taker

    async def info(self, request: Request) -> Response:
        return JsonResponse({})

    async def create(self, request: Request) -> Response:
        item = as_object(await self.taker.document(request), "body")
        feedback_id = first_text(item.get("id")) or self.taker.new_id()
        await self.taker.take_all([self._draft(item, feedback_id)])
        return JsonResponse({"id": feedback_id})

    async def update(self, request: Request) -> Response:
        item = as_object(await self.taker.document(request), "body")
        score = SentScore(
            system=_SYSTEM,
            value=_value(item),
            comment=item.get("comment"),
            correction=item.get("correction"),
            id=request.path_params["id"],
        )
        await self.taker.take_all([partial(score.change, self.taker.names)])
        return JsonResponse({"id": score.id})

    async def delete(self, request: Request) -> Response:
        self.taker.admit(request)
        await self.taker.take_all([partial(removal, _SYSTEM, request.path_params["id"])])
        return JsonResponse({})

    async def multipart(self, request: Request) -> Response:
        self.taker.admit(request)
        body = await read_body(request, _MAX_RUNS_BYTES)
        parts = self.taker.batch(list(_feedback_parts(body, request.headers.get("content-type", ""))), "feedback")
        await self.taker.take_most([partial(self._of_part, part) for part in parts], "feedback")
        return JsonResponse({"message": f"{len(parts)} feedback kept; runs are not"}, 202)

    def _of_part(self, part: bytes) -> Vote:
        try:
            item = as_object(read_document(part, "application/json", trusted=True), "feedback")
        except ApiError as exc:
            raise VoteError("feedback", str(exc)) from exc
        return self._draft(item, first_text(item.get("id")) or self.taker.new_id())()

    async def runs(self, request: Request) -> Response:
        self.taker.admit(request)
        await read_body(request, _MAX_RUNS_BYTES)
        return JsonResponse({"message": "runs are not kept"}, 202)

    async def tokens(self, request: Request) -> Response:
        document = await self.taker.document(request)
        wanted = self.taker.batch(document, "body") if isinstance(document, list) else [document]
        made = [self._token(request, as_object(item, "body")) for item in wanted]
        return JsonResponse(made if isinstance(document, list) else made[0])

    def _token(self, request: Request, item: Mapping[str, Any]) -> dict[str, Any]:
        run, key = first_text(item.get("run_id")), first_text(item.get("feedback_key"))
        if run is None or key is None:
            raise VoteError("run_id", "run_id and feedback_key are needed: a URL is for one answer and one name")
        if not self.taker.names.counts(key):
            message = (
                f"{key!r} is neither in feedback.thumb_names nor in feedback.score_names: no such vote would count"
            )
            raise VoteError("feedback_key", message)
        if self._is_signed(run):  # of its name only a hash is kept, by which none of ours is found
            raise VoteError("run_id", "a signed record id needs no URL from here: GET /-/feedback?record_id=… is one")
        token = presigned.token_for(self.taker.box.ids, run, key, presigned.expiry(item, self.taker.box.clock.now()))
        url = f"{presigned.origin(request)}{request.url.path}/{token.text}"
        return {"id": token.text, "url": url, "expires_at": datetime.fromtimestamp(token.until, UTC).isoformat()}

    def _is_signed(self, run: str) -> bool:
        try:
            self.taker.box.ids.verify(run)
        except ForgedIdError:
            return False
        return True

    async def presigned_post(self, request: Request) -> Response:
        body = await read_body(request, MAX_ANONYMOUS_BYTES)
        document = read_document(body, request.headers.get("content-type", ""), trusted=False)
        return await self._presigned(request, as_object(document, "body"))

    async def presigned_get(self, request: Request) -> Response:
        return await self._presigned(request, {key: _number(value) for key, value in request.query_params.items()})

    async def _presigned(self, request: Request, item: Mapping[str, Any]) -> Response:
        """A vote by nothing but its URL, for that answer and under that name."""
        box = self.taker.box
        box.hold_back(request, 1)
        token = presigned.opened(box.ids, request.path_params["token"], self.taker.names, box.clock.now())
        if token is None:
            raise box.guessed(request) or ApiError(404, "this URL was not made here, or was altered")
        if token.until < box.clock.now():
            raise ApiError(410, "this URL has expired; ask for a new one (POST /feedback/tokens)")
        score = SentScore(
            system=_SYSTEM,
            name=token.name,
            value=_value(item),
            record_id="-",
            user=_BY_URL,
            comment=item.get("comment"),
            correction=item.get("correction"),
        )
        trust = presigned.TRUST | trust_in(token=False, anonymous=box.config.anonymous)
        await self.taker.take_all([lambda: presigned.on(score.vote(self.taker.names), token)], trust)
        return JsonResponse({})

    def _draft(self, item: Mapping[str, Any], feedback_id: str) -> Draft:
        return lambda: _vote(item, feedback_id, self.taker.names)


def _vote(item: Mapping[str, Any], feedback_id: str, names: Names) -> Vote:
    answer = first_text(item.get("run_id")), first_text(item.get("trace_id"))
    key = first_text(item.get("key"))
    if answer == (None, None):
        raise VoteError("run_id", "missing; a vote is on one run")
    if key is None:
        raise VoteError("key", "missing; the key says what the score means")
    origin = as_object(item.get("feedback_source") or {}, "feedback_source")
    metadata = as_object(origin.get("metadata") or {}, "feedback_source.metadata")
    kind = first_text(origin.get("type"))
    return SentScore(
        system=_SYSTEM,
        name=key,
        value=_value(item),
        other_names=answer,
        user=first_text(*(metadata.get(name) for name in _USER), origin.get("user_id")),
        comment=item.get("comment"),
        correction=item.get("correction"),
        by=None if kind in (None, "api", "app") else kind,
        id=feedback_id,
    ).vote(names)


def _value(item: Mapping[str, Any]) -> Any:
    score = item.get("score")
    return item.get("value") if score is None else score


def _number(text: str) -> Any:
    """A query has only texts."""
    try:
        return float(text)
    except ValueError:
        return text


def _feedback_parts(body: bytes, content_type: str) -> Iterator[bytes]:
    """Bodies of the parts that are feedback; the others are passed over unread. Raises ApiError."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise ApiError(400, "content-type: no boundary", field="content-type")
    boundary = b"--" + found[1].encode()
    if body.count(boundary) > _MOST_PARTS:
        raise ApiError(413, f"the body has more than {_MOST_PARTS} parts; send smaller batches", field="body")
    for part in body.split(boundary)[1:]:
        head, blank, rest = part.partition(b"\r\n\r\n")
        if blank and _PART.search(head):
            yield rest.removesuffix(b"\r\n")
