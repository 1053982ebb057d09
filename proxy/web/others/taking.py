"""What all systems' URLs share: whoever comes needs the feedback token, and hears of errors as that system tells them.

A token is taken wherever a client of one of these systems puts its key. Without it nothing is read, for nothing would
count: there is no signed record id in what they send.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.ballots import FULL_TRUST, BallotTrust
from proxy.web.ballot_box import BallotBox
from proxy.web.feedback import MAX_BODY_BYTES, read_body, read_document
from proxy.web.others.names import Names
from proxy.web.responses import ApiError, JsonResponse
from proxy.web.votes import Vote, VoteError

__all__ = ["Draft", "Handler", "Shape", "Taker", "given_tokens"]

Shape = Callable[[int, str], Mapping[str, Any]]
"""An error as a system says it: from status and message to the body."""
Handler = Callable[[Request], Awaitable[Response]]
Draft = Callable[[], Vote]
"""Makes a vote of what was sent, or raises VoteError."""
_MOST_TOLD: Final = 5
"""Votes of one list of which an answer says why they are refused."""
_KEY_HEADERS: Final = ("x-api-key", "api_key", "x-portkey-api-key", "helicone-auth")


class Taker:
    """Takes votes for one system's URLs."""

    def __init__(self, box: BallotBox, shape: Shape) -> None:
        """`shape` says errors as that system does."""
        self.box = box
        self.names = Names.of(box.config)
        self._shape = shape

    def route(self, method: str, path: str, handler: Handler) -> Route:
        """A URL of that system."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (ApiError, VoteError) as exc:
                refusal = exc if isinstance(exc, ApiError) else _refusal(exc)
                self.box.refused(refusal)
                return self.refuse(refusal)

        return Route(path, answer, methods=[method])

    def refuse(self, refusal: ApiError) -> Response:
        """The answer to what is refused."""
        return JsonResponse(self._shape(refusal.status, str(refusal)), refusal.status, refusal.headers)

    def admit(self, request: Request) -> None:
        """Raise ApiError (401, or 429 for who guesses) where the feedback token did not come with `request`."""
        tokens = list(given_tokens(request))
        if any(self.box.believes(token) for token in tokens):
            return
        if not self.box.config.token:
            raise ApiError(401, "votes of other systems' clients need feedback.token, which is not configured")
        message = "the API key is not the feedback token (feedback.token): votes are counted only with it"
        raise (self.box.guessed(request) if tokens else None) or ApiError(401, message)

    async def document(self, request: Request) -> Any:
        """The body as JSON, from somebody with the token. Raises ApiError."""
        self.admit(request)
        body = await read_body(request, MAX_BODY_BYTES)
        return read_document(body, request.headers.get("content-type", ""), trusted=True)

    def batch(self, items: Any, where: str) -> list[Any]:
        """`items`, which has to be a list, and not too long a one. Raises ApiError."""
        if not isinstance(items, list):
            raise ApiError(400, f"{where}: not a list", field=where)
        if len(items) > self.box.config.max_batch:
            message = f"{where}: {len(items)} entries; send at most {self.box.config.max_batch} at a time"
            raise ApiError(413, message, field=where)
        return items

    async def take(self, drafts: Sequence[Draft], trust: BallotTrust = FULL_TRUST) -> list[str | ApiError]:
        """Keep those that are votes, in one frame; for each its id, or why it is refused. Raises ApiError (503) where
        nothing can be kept now."""
        votes = [_drawn(draft) for draft in drafts]
        checked = iter(await self.box.check([vote for vote in votes if isinstance(vote, Vote)], trust))
        found = [next(checked) if isinstance(vote, Vote) else vote for vote in votes]
        groups = [group for group in found if not isinstance(group, ApiError)]
        fids = iter(await self.box.keep(groups) if groups else ())
        return [one if isinstance(one, ApiError) else next(fids) for one in found]

    async def take_all(self, drafts: Sequence[Draft], trust: BallotTrust = FULL_TRUST) -> list[str]:
        """The same where one that is refused refuses all: raises ApiError for it, and keeps nothing."""
        votes = []
        for draft in drafts:
            if isinstance(vote := _drawn(draft), ApiError):
                raise vote
            votes.append(vote)
        groups = []
        for checked in await self.box.check(votes, trust):
            if isinstance(checked, ApiError):
                raise checked
            groups.append(checked)
        return await self.box.keep(groups) if groups else []

    async def take_most(self, drafts: Sequence[Draft], where: str) -> list[str]:
        """The same for a list, `where` in the body: those that are votes are kept whatever the others are; raises
        ApiError that names the others."""
        taken = await self.take(drafts)
        refused = [(n, one) for n, one in enumerate(taken) if isinstance(one, ApiError)]
        if not refused:
            return [one for one in taken if isinstance(one, str)]
        if len(taken) == 1:
            raise refused[0][1]
        told = "; ".join(f"{where}[{n}]: {one}" for n, one in refused[:_MOST_TOLD])
        more = f"; and {len(refused) - _MOST_TOLD} more" if len(refused) > _MOST_TOLD else ""
        message = f"{told}{more}; {len(taken) - len(refused)} of {len(taken)} were kept, and need not come again"
        raise ApiError(refused[0][1].status, message, field=f"{where}[{refused[0][0]}]")

    def new_id(self) -> str:
        """An id for what its client gave none: 32 hex digits."""
        return self.box.ids.new_uuid(self.box.clock.now())


def given_tokens(request: Request) -> Iterator[str]:
    """What may be the token: the bearer, the password of a basic authorization, or a key in a header of its own. One
    that is empty is none: it is no guess."""
    return (token for token in _given(request) if token)


def _given(request: Request) -> Iterator[str]:
    for header in request.headers.getlist("authorization"):
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "bearer":
            yield given.strip()
        elif scheme.lower() == "basic":
            try:
                yield b64decode(given.strip(), validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                yield header  # no password can be read, and so it is a wrong one
    for name in _KEY_HEADERS:
        for given in request.headers.getlist(name):
            yield given.removeprefix("Bearer ").strip()


def _drawn(draft: Draft) -> Vote | ApiError:
    try:
        return draft()
    except VoteError as exc:
        return _refusal(exc)


def _refusal(exc: VoteError) -> ApiError:
    return ApiError(400, str(exc), field=exc.field)
