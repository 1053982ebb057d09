"""What is asked of a challenger: conversations of held-out users that the champion has answered well.

They are drawn uniformly from all of them (`policies.draw`), one a user; never by score or vote. For a challenger that
was trained here only users count who are held out of training data and had none in its run; for any other all users do.
Only what may be used again is: whole copies, of requests that did not ask to be left out of training. And nothing is
asked that does more than answer (`policies.repeatable`): the server of a challenger would run tools as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from policies.draw import Draw, Drawn
from policies.repeatable import Unfit, why_unfit
from policies.rows import Model
from policies.selection import held_out
from proxy.checks.ports import Asked
from proxy.checks.reading import Read, read
from proxy.store.reading.samples import Candidate
from proxy.store.store import Store
from proxy.store.tables.keys import id_floor
from proxy.store.tables.values import RecordFlag, RecordView

__all__ = ["Prompts", "Recorded", "recorded", "recorded_of"]

_KEPT_HEADERS: Final = ("content-type", "accept", "anthropic-version", "openai-organization")
_LOOK_BACK: Final = 500
"""Newest records among which those for a warm-up are looked for."""
_UNFIT: Final = RecordFlag.TRUNCATED_REQUEST | RecordFlag.NO_TRAIN | RecordFlag.UNREAD
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A question, and what the champion has answered."""

    record_id: str
    user_hash: int | None
    tags: tuple[str, ...]
    asked: Asked
    champion: Read


async def recorded(store: Store, count: int) -> list[Asked]:
    """The newest requests of an understood shape that were answered well, whole, and free to be used again."""
    found: list[Asked] = []
    seen = 0
    if count == 0:
        return found
    async for view in store.records.iter(newest_first=True, chunk=50):
        row = view.row
        if view.body is not None and row.method == "POST" and RecordFlag.SAMPLE in row.flags and not row.flags & _UNFIT:
            found += [_asked_of(view)] if _is_repeatable(view) else []
        seen += 1
        if len(found) == count or seen == _LOOK_BACK:
            break
    return found


class Prompts:
    """The conversations of one check: drawn the same again by whoever goes on with it."""

    def __init__(
        self,
        store: Store,
        *,
        champion: Model,
        challenger: Model | None,
        salt: bytes,
        until_us: int,
        days: float,
        most: int,
        holdout_share: float,
        model_name: bool,
    ) -> None:
        """`challenger`: one that is in the store, and may have been trained; `until_us`: when the check began;
        `holdout_share`: `generator_config.holdout_share`."""
        self._store = store
        self._champion = champion
        self._run_id = challenger.run_id if challenger is not None else None
        self._salt, self._most = salt, most
        self._after, self._before = id_floor(int(until_us - days * _DAY_US)), id_floor(until_us)
        self._holdout_share = holdout_share
        self._model_name = model_name

    async def draw(self) -> tuple[Drawn, ...]:
        """Whom to ask, in order."""
        draw = Draw(self._salt, self._most)
        answered = self._store.samples.answered_by(self._champion.id, after_id=self._after, before_id=self._before)
        async for chunk in answered:
            await asyncio.to_thread(_see_all, draw, await self._unseen(chunk))
        return draw.drawn()

    async def _unseen(self, chunk: Sequence[Candidate]) -> Sequence[Candidate]:
        """Those of users that the training of the challenger has not seen."""
        if self._run_id is None:
            return chunk
        apart = [one for one in chunk if held_out(one.record_id, one.user, self._holdout_share)]
        users = {one.user for one in apart if one.user is not None}
        seen = await self._store.runs.trained_on(self._run_id, users) if users else set()
        return [one for one in apart if one.user not in seen]

    async def get(self, record_id: str) -> Recorded | None:
        """One of them; None where it, or its bodies, are gone by now, or it must not be asked twice."""
        view = await self._store.records.get(record_id)
        if view is None or view.body is None or not _is_repeatable(view):
            return None
        return recorded_of(view, self._champion.model if self._model_name else None)


def _is_repeatable(view: RecordView) -> bool:
    """Whether asking once more does nothing but answer. Whether it may be used at all, the record's flags say."""
    assert view.body is not None
    try:
        document = orjson.loads(view.body.request)
    except orjson.JSONDecodeError:
        return True  # no API that acts is asked otherwise
    return not isinstance(document, dict) or why_unfit(document, view.row.kind) in (None, Unfit.NO_TRAIN)


def _see_all(draw: Draw, chunk: Sequence[Candidate]) -> None:
    for one in chunk:
        draw.see(one.record_id, one.user, one.conversation)


def recorded_of(view: RecordView, asked_model: str | None) -> Recorded:
    """A record, which has its body, as a question and the champion's answer. `asked_model`: see `read`."""
    assert view.body is not None
    row, body, asked = view.row, view.body, _asked_of(view)
    answered = read(
        asked,
        status=row.status,
        response=body.response,
        media_type=body.response_headers.get("content-type", ""),
        latency_s=row.upstream_us / 1e6,
        asked_model=asked_model,
    )
    tags = tuple(f"{name}={value}" for name, value in sorted(body.tags.items()))
    return Recorded(record_id=row.id, user_hash=row.user_hash, tags=tags, asked=asked, champion=answered)


def _asked_of(view: RecordView) -> Asked:
    """The request of a record, which has its body."""
    assert view.body is not None
    headers = {name: view.body.request_headers[name] for name in _KEPT_HEADERS if name in view.body.request_headers}
    return Asked(target=view.body.target, body=view.body.request, headers=headers)
