"""What a person says of a record on its page: a thumb, a correction, a comment, tags; and how it is taken back.

Nothing is changed in place: whatever is said is one more vote of the same source, and taking something back is one,
too, which restores what this person had said before. They all go through the spool, as every vote; so the page says
that a vote is on its way until the store has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.ballots import BallotTrust
from policies.wording import many
from proxy.errors import TemporaryError
from proxy.ids import minted_at
from proxy.store.tables.keys import is_record_id
from proxy.store.tables.values import RecordView, VoteView
from proxy.web.console.actions import form_of, refuse_other_sites
from proxy.web.console.page import Console
from proxy.web.records import find_record, full_document
from proxy.web.responses import ApiError
from proxy.web.votes import Vote

__all__ = ["GivenTag", "Said", "before_the_last", "given_tags", "name_of", "said_by", "source_of", "votes_for",
           "voting_context", "voting_routes"]  # fmt: skip

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
_BARE_TAG: Final = "tag"
"""Name of a tag that is one word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one source says of a record at a time."""

    thumb: int | None = None
    correction: str | None = None
    comment: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """An empty value: taken away again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTag:
    """A tag that somebody gave to a record by a vote."""

    name: str
    value: str
    source: str


def source_of(who: str) -> str:
    """The source of votes that are given here: nobody's name of an application is mixed up with it."""
    return f"console:{who}" if who else "console"


def said_by(votes: Iterable[VoteView], source: str) -> Said:
    """What holds of the votes of `source`, given in the order in which they came."""
    said = Said()
    for vote in _mine(votes, source):
        if vote.retracted:
            said = replace(said, thumb=None, correction=None, comment=None)
        said = Said(
            thumb=said.thumb if vote.feedback is None else vote.feedback,
            correction=said.correction if vote.correction is None else vote.correction,
            comment=said.comment if vote.comment is None else vote.comment,
            tags={**said.tags, **vote.tags},
        )
    return said


def before_the_last(votes: Sequence[VoteView], source: str) -> Said | None:
    """What this source said before it said something the last time; None where it has said nothing. A comment that a
    later one has replaced is gone for good."""
    mine = [vote for vote in _mine(votes, source) if _can_be_undone(vote)]
    if not mine:
        return None
    return said_by([vote for vote in mine if vote.created_us != mine[-1].created_us], source)


def _mine(votes: Iterable[VoteView], source: str) -> list[VoteView]:
    return [v for v in votes if v.source == source and not v.whole and BallotTrust.TOKEN in v.trust]


def _can_be_undone(vote: VoteView) -> bool:
    said = (vote.feedback, vote.correction, vote.comment)
    return any(one is not None for one in said) or vote.retracted or bool(vote.tags)


def given_tags(votes: Sequence[VoteView]) -> list[GivenTag]:
    """The tags that votes have given and that were not taken away again, by name."""
    found: dict[tuple[str, str], str] = {}
    for vote in votes:
        found |= {(name, vote.source): value for name, value in vote.tags.items()}
    tags = (GivenTag(name=name, value=value, source=source) for (name, source), value in found.items() if value)
    return sorted(tags, key=lambda tag: (tag.name, tag.source))


def votes_for(record_id: str, source: str, now: Said, wanted: Said) -> list[Vote]:
    """The votes after which `source` says what is `wanted`, where it says `now`; none where that is the same."""
    says: list[dict[str, Any]] = []
    gone = (now.thumb is not None and wanted.thumb is None) or (
        now.correction is not None and wanted.correction is None
    )
    if gone:
        says.append({"feedback": None})  # takes back all that it has said
        now = Said(tags=now.tags)
    fresh: dict[str, Any] = {}
    if wanted.thumb is not None and wanted.thumb != now.thumb:
        fresh["feedback"] = wanted.thumb
    if wanted.correction is not None and wanted.correction != now.correction:
        fresh["correction"] = wanted.correction
    if wanted.comment != now.comment or (wanted.comment is not None and "feedback" in fresh):
        fresh["comment"] = wanted.comment or ""
    if fresh:
        says.append(fresh)
    tags = {name: wanted.tags.get(name, "") for name in {**now.tags, **wanted.tags}}
    tags = {name: value for name, value in sorted(tags.items()) if value != now.tags.get(name, "")}
    if tags and not says:
        says.append({})
    votes = [Vote(record_id=record_id, says=one, source=source) for one in says]
    return [*votes[:-1], replace(votes[-1], tags=tags)] if votes else []


def voting_routes(console: Console) -> list[Route]:
    """POST /records/{id}/votes, and what has become of one."""
    voting = _Voting(console)
    return [
        Route("/records/{id}/votes", console.page(voting.post), methods=["POST"]),
        Route("/records/{id}/votes", console.page(voting.state)),
    ]


def name_of(request: Request) -> str:
    """Who looks at the console, as they said when they voted last; empty where they have not."""
    return _clean(unquote(request.cookies.get(WHO_COOKIE, "")))


def voting_context(view: RecordView, who: str, can_vote: bool) -> dict[str, Any]:
    """What a record's page needs to know of this person's votes on it."""
    source = source_of(who)
    mine, before = said_by(view.votes, source), before_the_last(view.votes, source)
    return {
        "who": who,
        "mine": mine,
        "undo": before is not None and bool(votes_for(view.row.id, source, mine, before)),
        "given": given_tags(view.votes),
        "own_source": source,
        "can_vote": can_vote,
        "pending": None,
        "late_s": None,
        "news": False,
    }


class _Voting:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def post(self, request: Request) -> Response:
        """Write down what was said; the page then asks until it is counted."""
        try:
            return await self._kept(request)
        except TemporaryError as exc:
            return await self._said(f"Not kept: {exc}. Press it again when the store is back.", 503)

    async def _kept(self, request: Request) -> Response:
        refuse_other_sites(request)
        form, write = await form_of(request), self._console.services.vote
        who = _clean(form.get("who", ""))
        view = await find_record(self._console.store, self._console.ids, request.path_params["id"])
        if write is None:
            return await self._said("Votes cannot be taken here: the controller writes no spool.", 503)
        if view is None:
            return await self._said("There is no such record: retention may have deleted it.", 404)
        try:
            fids = await write(self._asked(view, source_of(who), form))
        except ValueError as exc:
            return await self._said(str(exc), 422)
        except ApiError as exc:
            return await self._said(str(exc), exc.status)
        response = await self._show(view, who, fids[-1])
        secure = request.url.scheme == "https"
        response.set_cookie(WHO_COOKIE, quote(who), max_age=_COOKIE_S, httponly=True, samesite="strict", secure=secure)
        return response

    async def state(self, request: Request) -> Response:
        """The votes of a record, and whether the store has the vote `seen` by now."""
        seen = request.query_params.get("seen", "")
        view = await find_record(self._console.store, self._console.ids, request.path_params["id"])
        if view is None or not is_record_id(seen):
            return await self._said("There is no such record: retention may have deleted it.", 404)
        return await self._show(view, name_of(request), None if any(v.fid == seen for v in view.votes) else seen)

    def _asked(self, view: RecordView, source: str, form: Mapping[str, str]) -> list[Vote]:
        record_id = self._console.ids.sign(view.row.id)
        return [replace(vote, record_id=record_id) for vote in _asked(view, source, form)]

    async def _show(self, view: RecordView, who: str, pending: str | None) -> Response:
        context = voting_context(view, who, True)
        if pending is not None:
            waited_s = self._console.services.clock.now() - minted_at(pending)
            context |= {"pending": pending, "late_s": waited_s if waited_s > _LATE_S else None}
        record = await full_document(self._console.store, self._console.ids, view)
        return await self._console.partial("record_votes.html", {**context, "record": record, "news": True})

    async def _said(self, message: str, status_code: int) -> Response:
        response = await self._console.partial("refusal.html", {"message": message}, status_code=status_code)
        response.headers["hx-retarget"], response.headers["hx-reswap"] = "#vote-answer", "innerHTML"
        return response


def _asked(view: RecordView, source: str, form: Mapping[str, str]) -> list[Vote]:
    """The votes that a form stands for. Raises ValueError, a sentence for the person."""
    record_id, now, pending = view.row.id, said_by(view.votes, source), form.get("pending", "")
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
        case "undo" if pending and all(vote.fid != pending for vote in view.votes):
            # the store knows only what was said before it: that would be undone in its place
            raise ValueError("What you said last is on its way still: it can be undone as soon as it counts.")
        case "undo":
            before = before_the_last(view.votes, source)
            if before is None:
                raise ValueError("You have said nothing of this record under this name, so nothing can be undone.")
            wanted = before
        case _:
            raise ValueError("Vote, say what it should have been, comment, or give a tag.")
    votes = votes_for(record_id, source, now, wanted)
    if not votes:
        raise ValueError("That would change nothing.")
    return votes


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
