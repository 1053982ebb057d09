"""What a person says of a record on its page or in the list: a thumb, a correction, a comment, tags; and takes back.

Nothing is changed in place: whatever is said is one more vote of the same source, and taking something back is one,
too, which restores what this person had said before. They all go through the spool, as every vote; so the page says
that a vote is on its way until the store has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.ballots import can_be_judged
from policies.wording import many
from proxy.errors import TemporaryError
from proxy.ids import minted_at
from proxy.store.tables.keys import is_record_id
from proxy.store.tables.values import RecordView, VoteView
from proxy.web.console.actions import form_of, refuse_other_sites
from proxy.web.console.page import Console
from proxy.web.console.pending import PendingVotes
from proxy.web.console.said import before_the_last, given_tags, said_by, source_of, votes_for
from proxy.web.records import find_record, full_document
from proxy.web.responses import ApiError
from proxy.web.votes import Vote

__all__ = ["name_of", "standing_votes", "voting_context", "voting_routes"]

WHO_COOKIE: Final = "ratchet_who"
_COOKIE_S: Final = 365 * 86_400
_LONGEST_NAME: Final = 100
_LONGEST_COMMENT: Final = 10_000
_LONGEST_CORRECTION: Final = 200_000
_LONGEST_TAG: Final = 200
_MOST_TAGS: Final = 32
_LATE_S: Final = 15.0
"""After so long a vote that is not stored is worth a word."""
_THUMBS: Final = {"up": 1, "neutral": 0, "down": -1}
_GONE: Final = "There is no such record: retention may have deleted it."
_BARE_TAG: Final = "tag"
"""Name of a tag that is one word."""


def voting_routes(console: Console, pending: PendingVotes) -> list[Route]:
    """POST /records/{id}/votes, and what has become of one; with `?row`, as the list of records shows it."""
    voting = _Voting(console, pending)
    return [
        Route("/records/{id}/votes", console.page(voting.post), methods=["POST"]),
        Route("/records/{id}/votes", console.page(voting.state)),
    ]


def name_of(request: Request) -> str:
    """Who looks at the console, as they said when they voted last; empty where they have not."""
    return _clean(unquote(request.cookies.get(WHO_COOKIE, "")))


def standing_votes(record_id: str, votes: Sequence[VoteView], who: str) -> dict[str, Any]:
    """What this person says of a record by now, of all its `votes`, and whether they can take something back."""
    source = source_of(who)
    mine, before = said_by(votes, source), before_the_last(votes, source)
    return {"mine": mine, "undo": before is not None and bool(votes_for(record_id, source, mine, before))}


def voting_context(view: RecordView, pending: PendingVotes, who: str, can_vote: bool) -> dict[str, Any]:
    """What a record's page needs to know of this person's votes on it."""
    waiting = pending.waiting(view.row.id, view.votes)
    votes = pending.joined(view.row.id, view.votes)
    return {
        "who": who,
        **standing_votes(view.row.id, votes, who),
        "given": given_tags(votes),
        "own_source": source_of(who),
        "can_vote": can_vote,
        "judgeable": can_be_judged(view.row.outcome, view.row.status),
        "pending": waiting[-1].fid if waiting else None,
        "late_s": None,
        "news": None,
    }


class _Voting:
    def __init__(self, console: Console, pending: PendingVotes) -> None:
        self._console = console
        self._pending = pending
        self._one_at_a_time = asyncio.Lock()
        """What a vote means hangs on the one before it."""

    async def post(self, request: Request) -> Response:
        """Write down what was said; the page then asks until it is counted."""
        try:
            return await self._kept(request)
        except TemporaryError as exc:
            return await self._said(request, f"Not kept: {exc}. Press it again when the store is back.", 503)

    async def _kept(self, request: Request) -> Response:
        refuse_other_sites(request)
        form, write = await form_of(request), self._console.services.vote
        who, name = _clean(form.get("who", "")), request.path_params["id"]
        if write is None:
            return await self._said(request, "Votes cannot be taken here: the controller writes no spool.", 503)
        try:
            async with self._one_at_a_time:
                view = await find_record(self._console.store, self._console.ids, name)
                if view is None:
                    return await self._said(request, _GONE, 404)
                votes = self._asked(view, source_of(who), form)
                fids = await write(votes)
                self._pending.add(view.row.id, votes, fids)
        except ValueError as exc:
            return await self._said(request, str(exc), 422)
        except ApiError as exc:
            return await self._said(request, str(exc), exc.status)
        response = await self._show(request, view, who, pending=fids[-1])
        secure = request.url.scheme == "https"
        response.set_cookie(WHO_COOKIE, quote(who), max_age=_COOKIE_S, httponly=True, samesite="strict", secure=secure)
        return response

    async def state(self, request: Request) -> Response:
        """The votes of a record, and whether the store has the vote `seen` by now."""
        seen = request.query_params.get("seen", "")
        view = await find_record(self._console.store, self._console.ids, request.path_params["id"])
        if view is None or not is_record_id(seen):
            return await self._said(request, _GONE, 404)
        there = next((vote for vote in view.votes if vote.fid == seen), None)
        if there is None:
            return await self._show(request, view, name_of(request), pending=seen)
        latest = max((vote for vote in view.votes if vote.source == there.source), key=lambda vote: vote.fid)
        return await self._show(request, view, name_of(request), stored=latest)

    def _asked(self, view: RecordView, source: str, form: Mapping[str, str]) -> list[Vote]:
        record_id = self._console.ids.sign(view.row.id)
        known = self._pending.joined(view.row.id, view.votes)
        return [replace(vote, record_id=record_id) for vote in _asked(view.row.id, known, source, form)]

    async def _show(
        self,
        request: Request,
        view: RecordView,
        who: str,
        *,
        pending: str | None = None,
        stored: VoteView | None = None,
    ) -> Response:
        """What has become of a vote: its id while it is on its way, then itself."""
        context = voting_context(view, self._pending, who, True) | {"pending": pending}
        context["news"] = "kept" if stored is None else _became(stored, judgeable=context["judgeable"])
        if pending is not None:
            waited_s = self._console.services.clock.now() - minted_at(pending)
            context["late_s"] = waited_s if waited_s > _LATE_S else None
        if "row" in request.query_params:
            return await self._console.partial("row_votes.html", {**context, "r": _row(view)})
        record = await full_document(self._console.store, self._console.ids, view)
        return await self._console.partial("record_votes.html", {**context, "record": record})

    async def _said(self, request: Request, message: str, status_code: int) -> Response:
        in_row = "row" in request.query_params
        response = await self._console.partial("refusal.html", {"message": message}, status_code=status_code)
        response.headers["hx-retarget"] = "next .said" if in_row else "#vote-answer"
        response.headers["hx-reswap"] = "innerHTML"
        return response


def _became(vote: VoteView, *, judgeable: bool) -> Literal["counted", "idle", "stored"]:
    """Whether the numbers have it, or it is a thumb or a correction on what was no answer, or words that no number
    has."""
    if judgeable and (vote.effective or vote.retracted):
        return "counted"
    return "stored" if judgeable or (vote.feedback, vote.correction) == (None, None) else "idle"


def _row(view: RecordView) -> dict[str, Any]:
    """What the list shows of a record's votes."""
    return {"id": view.row.id, "feedback": view.row.feedback}


def _asked(record_id: str, votes: Sequence[VoteView], source: str, form: Mapping[str, str]) -> list[Vote]:
    """The votes that a form stands for, beside those on the record. Raises ValueError, a sentence for the person."""
    now, pending = said_by(votes, source), form.get("pending", "")
    match "untag" if "untag" in form else form.get("act", ""):
        case "up" | "neutral" | "down" as thumb:
            return [Vote(record_id=record_id, says={"feedback": _THUMBS[thumb]}, source=source)]
        case "say":
            return [Vote(record_id=record_id, says=_words(form), source=source)]
        case "tag":
            wanted = replace(now, tags={**now.tags, **_tag(form.get("tag", ""))})
            if len([value for value in wanted.tags.values() if value]) > _MOST_TAGS:
                raise ValueError(f"You gave this record {_MOST_TAGS} tags already: take one away first.")
        case "untag":
            wanted = replace(now, tags={**now.tags, form.get("untag", "").replace("\0", "")[:_LONGEST_TAG]: ""})
        case "undo" if pending and all(vote.fid != pending for vote in votes):
            # this process did not write it, and the store has only what was said before: that would be undone instead
            raise ValueError("What you said last is on its way still: it can be undone as soon as it counts.")
        case "undo":
            before = before_the_last(votes, source)
            if before is None:
                raise ValueError("You have said nothing of this record under this name, so nothing can be undone.")
            wanted = before
        case _:
            raise ValueError("Vote, say what it should have been, comment, or give a tag.")
    changes = votes_for(record_id, source, now, wanted)
    if not changes:
        raise ValueError("That would change nothing.")
    return changes


def _words(form: Mapping[str, str]) -> dict[str, str]:
    limits = {"correction": _LONGEST_CORRECTION, "comment": _LONGEST_COMMENT}
    words = {name: form.get(name, "").replace("\0", "").strip() for name in limits}
    for name, text in words.items():
        if len(text) > limits[name]:
            raise ValueError(f"The {name} has {many(len(text))} characters; the limit is {many(limits[name])}.")
    said = {name: text for name, text in words.items() if text}
    if not said:
        raise ValueError("Write what the answer should have been, or a comment.")
    return said


def _tag(text: str) -> dict[str, str]:
    name, sign, value = (part.strip() for part in text.replace("\0", "").partition("="))
    if not sign:
        name, value = _BARE_TAG, name
    if not name or not value or max(len(name), len(value)) > _LONGEST_TAG:
        raise ValueError(f"Write a tag as name=value or as one word, at most {_LONGEST_TAG} characters each.")
    return {name: value}


def _clean(who: str) -> str:
    return " ".join(who.replace("\0", "").split())[:_LONGEST_NAME]
