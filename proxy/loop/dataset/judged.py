"""What people did not like, and what they said instead: looked up in the history of later conversations.

A chat sends all of its earlier turns along with each request, the answers that were voted down among them. They are
recognised by who was asked, what was asked and what was answered, white space aside; whatever else stood in the request
(a system prompt, a title) does not count. The one who is asked counts, so that a stranger's vote on the same words does
not reach other people's chats; where nobody is known, only votes of nobody count.

Some clients show the model another question than they keep (with found documents, or the time), or drop the beginning
off. So an answer of some length is recognised by itself, and so is any whose question is gone: it is not taught, but
nothing is put in its place, for the words may have answered something else.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b

from policies.caps import Caps
from policies.conversation import Conversation, Turn
from policies.records import Sample
from proxy.loop.dataset.reading import read

__all__ = ["Judged"]

_SCHEMA = """CREATE TABLE IF NOT EXISTS judged (owner INTEGER NOT NULL, answer INTEGER NOT NULL, correction BLOB,
    PRIMARY KEY (owner, answer)) WITHOUT ROWID"""
_TELLING = 80
"""Characters, spaces aside, from which an answer is recognised without its question."""


class Judged:
    """Disliked and corrected answers, in the staging file of a build."""

    def __init__(self, db: sqlite3.Connection, caps: Caps) -> None:
        """`caps` counts the corrections of a user, and of a cluster of claimed names."""
        self._db = db
        self._caps = caps
        self._db.execute(_SCHEMA)
        self._some = False

    def remember(self, batch: Iterable[Sample]) -> None:
        """Keep those that were disliked or corrected, newest first: of two corrections the later one counts.

        A correction whose request asked not to be used for training is not taught, but what it corrects is not either.
        The same goes for more corrections than a user may make.
        """
        for logged in batch:
            disliked = logged.feedback is not None and logged.feedback < 0
            if not disliked and logged.correction is None:
                continue
            sample = read(logged)
            said = sample.said
            correction = sample.correction if sample.trainable else None
            if correction is not None and self._caps.claim_correction(sample.user, sample.cluster) is not None:
                correction = None
            instead = None if correction is None else correction.encode("utf-8", "surrogatepass")
            keys = (_key(sample.user, asked, said.answer) for asked in (_asked(said.turns), None))
            self._db.executemany(
                "INSERT INTO judged VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET correction = coalesce(correction, excluded.correction)",
                [(_owner(sample), key, text) for key, text in zip(keys, (instead, None), strict=True)],
            )
            self._some = True

    def applied(self, sample: Sample) -> Sample:
        """The sample with its history as people judged it.

        An earlier answer that was corrected says what the correction says. One that was disliked, or called tools in
        the place of what it should have said, is not `taught`.
        """
        if not self._some or not any(turn.role == "assistant" for turn in sample.said.turns):
            return sample
        owner = _owner(sample)
        if not self._knows(owner):
            return sample
        said = sample.said
        return replace(sample, conversation=replace(said, turns=self._turns(said, sample.user, owner)))

    def rejects(self, sample: Sample) -> bool:
        """Whether its answer, on which nobody voted, is word for word one that its user disliked or corrected when it
        came before: a request that was sent again."""
        if not self._some or sample.feedback is not None or sample.correction is not None:
            return False
        owner, said = _owner(sample), sample.said
        return self._knows(owner) and self._found(owner, _key(sample.user, _asked(said.turns), said.answer)) is not None

    def _knows(self, owner: int) -> bool:
        query = "SELECT 1 FROM judged WHERE owner = ? LIMIT 1"
        return self._db.execute(query, (owner,)).fetchone() is not None

    def _turns(self, said: Conversation, user: int | None, owner: int) -> tuple[Turn, ...]:
        turns = []
        asked = None
        for turn in said.turns:
            if turn.role == "user":
                asked = turn.text
            turns.append(self._judged(turn, user, asked, owner) if turn.role == "assistant" else turn)
        return tuple(turns)

    def _judged(self, turn: Turn, user: int | None, asked: str | None, owner: int) -> Turn:
        row = self._found(owner, _key(user, asked or "", turn))
        if row is None and (asked is None or len(_folded(turn.text)) >= _TELLING):
            row = self._found(owner, _key(user, None, turn))
        if row is None:
            return turn
        if row[0] is None or turn.calls:
            return replace(turn, taught=False)
        return Turn(role="assistant", content=row[0].decode("utf-8", "surrogatepass"), name=turn.name)

    def _found(self, owner: int, key: int) -> tuple[bytes | None] | None:
        query = "SELECT correction FROM judged WHERE owner = ? AND answer = ?"
        row: tuple[bytes | None] | None = self._db.execute(query, (owner, key)).fetchone()
        return row


def _owner(sample: Sample) -> int:
    return 0 if sample.user is None else sample.user


def _asked(turns: Iterable[Turn]) -> str:
    asked = ""
    for turn in turns:
        if turn.role == "user":
            asked = turn.text
    return asked


def _key(user: int | None, asked: str | None, answer: Turn) -> int:
    """63-bit hash of who was asked, what was asked (None: whatever it was) and what was answered."""
    calls = [part for call in answer.calls for part in (call.name, _folded_json(call.arguments))]
    text = "\x1f".join([str(user), "\x1e" if asked is None else _folded(asked), _folded(answer.text), *calls])
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def _folded(text: str) -> str:
    """Without white space: clients trim it, and some put what came in parts together with other spaces or none."""
    return "".join(text.split())


def _folded_json(arguments: str) -> str:
    """Clients parse arguments and write them anew: spaces and the order of members may differ."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return _folded(arguments)
