"""GET /-/feedback: a page with one button, for a link in a mail or a message that asks "was this good?".

Mail scanners and previews open every link, so that opening it never votes: the button does, with a form. The signed id
of the record is all the authority that is needed, and all that the page shows is what the link says. It runs no
script, loads nothing, and cannot be framed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from policies.ballots import trust_in
from proxy.web.ballot_box import BallotBox, Entries
from proxy.web.feedback import read_body
from proxy.web.responses import ApiError
from proxy.web.votes import Vote, VoteError, parse_votes

__all__ = ["VotePage"]

_MOST_BYTES: Final = 131_072
_MOST_FIELDS: Final = 20
_RETRACT: Final = "retract"
_VALUES: Final = {"1": 1, "0": 0, "-1": -1, _RETRACT: None}
_STYLE: Final = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#57606a;--line:#8c959f;
--go:#0b57d0;--on:#fff}
@media(prefers-color-scheme:dark){:root{--page:#14171a;--card:#1f2428;--ink:#f0f3f6;--soft:#b3bcc5;
--line:#8b949e;--go:#a8c7fa;--on:#0a1a33}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1rem;background:var(--page);
color:var(--ink);font:1.05rem/1.5 system-ui,sans-serif}
main{width:100%;max-width:30rem;padding:1.5rem;background:var(--card);border-radius:1rem}
h1{margin:0 0 .5rem;font-size:1.4rem;line-height:1.25}
p{margin:0 0 1rem;color:var(--soft)}
label{display:block;margin-bottom:.25rem}
textarea{display:block;width:100%;min-height:5rem;margin-bottom:1rem;padding:.6rem;font:inherit;
color:inherit;background:var(--page);border:1px solid var(--line);border-radius:.5rem}
button{width:100%;min-height:3rem;padding:.6rem 1rem;font:inherit;font-weight:600;
border:1px solid var(--go);border-radius:.5rem;background:var(--go);color:var(--on);cursor:pointer}
button.quiet{background:transparent;color:var(--go)}
:focus-visible{outline:3px solid var(--go);outline-offset:3px}
""".strip()
_STYLE_HASH: Final = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
                               "frame-ancestors 'none'; base-uri 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}  # fmt: skip
_ASKS: Final = {
    1: ("Was this answer good?", "Yes, it was good"),
    -1: ("Was this answer bad?", "Yes, it was bad"),
    0: ("Was this answer neither good nor bad?", "Yes, neither"),
}
_THANKS: Final = {1: "You said that the answer was good.", -1: "You said that the answer was bad.",
                  0: "You said that the answer was neither good nor bad."}  # fmt: skip
_INCOMPLETE: Final = ("This link is not complete", "Open it once more from where it was sent to you. If that does not "
                      "help, tell whoever sent it.")  # fmt: skip
_SORRY: Final = {
    403: ("This link belongs to no answer", "A part of it may be missing. Open it once more from where it was sent."),
    410: ("This answer is too old for a vote", "Thank you all the same."),
    413: ("This comment is too long", "Go back, make it shorter, and try again."),
    429: ("Too many votes came from your network", "Wait a minute, then go back and try again."),
    503: ("Your vote cannot be saved at the moment", "Wait a minute, then go back and try again."),
}  # fmt: skip
_CLOSED: Final = ("Votes by link are not taken here", "Whoever runs this service accepts them in another way.")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a link or a form says."""

    vote: Vote
    record_id: str
    feedback: int | None
    source: str


class VotePage:
    """The page of one worker, and where its form goes; its votes go into `box`."""

    def __init__(self, box: BallotBox) -> None:
        self._box = box
        self._trust = trust_in(token=False, anonymous=box.config.anonymous)

    async def show(self, request: Request) -> Response:
        """The page with the button; nothing is written."""
        try:
            asked = _asked(request.query_params)
            if asked.feedback is None:
                raise ApiError(400, "a link cannot take back", field="feedback")
            await self._checked(asked)
        except ApiError as exc:
            return _sorry(exc)
        title, button = _ASKS[asked.feedback]
        seen = "your vote and what you write" + ("" if asked.source else ", not your name")
        words = f"Press the button to tell those who run this service. They see {seen}."
        comment = '<label for="comment">Anything to add? (optional)</label>' \
                  '<textarea id="comment" name="comment" maxlength="5000"></textarea>'  # fmt: skip
        form = _form("feedback/page", asked, str(asked.feedback), button, inside=comment)
        return _page(title, f"<p>{words}</p>{form}")

    async def take(self, request: Request) -> Response:
        """The vote of a pressed button, or its retraction."""
        try:
            self._box.hold_back(request, 1)
            asked = _asked(await _fields(request))
            await self._box.keep([await self._checked(asked)])
        except ApiError as exc:
            self._box.refused(exc)
            return _sorry(exc)
        if asked.feedback is None:
            return _page("Your vote is taken back", "<p>It no longer counts. You can close this page.</p>")
        said = f"<p>{_THANKS[asked.feedback]} You can close this page.</p>"
        return _page("Thank you", said + _form("page", asked, _RETRACT, "Take it back", quiet=True))

    async def _checked(self, asked: _Asked) -> Entries:
        [checked] = await self._box.check([asked.vote], self._trust)
        if isinstance(checked, ApiError):
            raise checked
        return checked


async def _fields(request: Request) -> Mapping[str, str]:
    body = await read_body(request, _MOST_BYTES)
    try:
        return dict(
            parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
        )
    except ValueError as exc:
        raise ApiError(400, f"the body is not a form ({exc})", field="body") from exc


def _asked(fields: Mapping[str, str]) -> _Asked:
    """What they say. Raises ApiError (400)."""
    value = fields.get("feedback", "")
    if value not in _VALUES:
        raise ApiError(400, "feedback: not 1, 0 or -1", field="feedback")
    record_id, source, comment = (fields.get(name, "").strip() for name in ("record_id", "source", "comment"))
    said = {"record_id": record_id, "feedback": _VALUES[value]}
    said |= {name: text for name, text in (("source", source), ("comment", comment)) if text}
    try:
        [vote] = parse_votes(said, 1)
    except VoteError as exc:
        raise ApiError(413 if exc.field == "comment" else 400, str(exc), field=exc.field) from exc
    return _Asked(vote, record_id, _VALUES[value], source)


def _form(action: str, asked: _Asked, value: str, button: str, *, inside: str = "", quiet: bool = False) -> str:
    """A form whose only button sends `value`."""
    hidden = {"record_id": asked.record_id, "feedback": value} | ({"source": asked.source} if asked.source else {})
    fields = "".join(f'<input type="hidden" name="{name}" value="{escape(text)}">' for name, text in hidden.items())
    style = ' class="quiet"' if quiet else ""
    return f'<form method="post" action="{action}">{fields}{inside}<button{style}>{button}</button></form>'


def _sorry(refusal: ApiError) -> Response:
    closed = refusal.status == 403 and refusal.field == "feedback"
    title, words = _CLOSED if closed else _SORRY.get(refusal.status, _INCOMPLETE)
    return _page(title, f"<p>{words}</p>", refusal.status, refusal.headers)


def _page(title: str, content: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A whole page; `title` and `content` are HTML."""
    view = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    body = f"<main><h1>{title}</h1>{content}</main>"
    head = f"<head>{view}<title>{title}</title><style>{_STYLE}</style></head>"
    document = f'<!doctype html><html lang="en">{head}<body>{body}</body></html>'
    return HTMLResponse(document, status, {**_HEADERS, **(headers or {})})
