"""A score in no system's words, and the vote that it becomes. Pure.

What counts of it says its name (`names.py`); all the rest is kept as a comment, so that nothing is lost and nothing is
made up. Whoever voted is the vote's source; where nobody is named, the score's own id stands for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from proxy.web.others.names import Names, as_note, as_text
from proxy.web.votes import MAX_ID, Vote, VoteError, parse_vote

__all__ = ["SentScore", "as_object", "external_id", "first_text", "removal"]

_LONGEST: Final = {"comment": 10_000, "source": 200, "tag": 200}
"""A vote is not lost for the length of its comment: the beginning of it is kept."""
_MOST: Final = 1 << 63
_ANSWERS: Final = ("answer", "output", "response", "expected_response", "content", "text", "completion")
"""Keys under which a correction that is an object has what the answer should have been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentScore:
    """One score as its system sent it."""

    system: str
    name: str = ""
    """Empty where the system has thumbs only, without names."""
    value: Any = None
    thumb: int | None = None
    """What it is, where that needs no name."""
    record_id: str | None = None
    other_names: tuple[str | None, ...] = ()
    """What else its system calls the same answer: each is tried where those before it are unknown."""
    session: str | None = None
    """The conversation that it is about, where it names no answer."""
    user: str | None = None
    """Who voted."""
    comment: Any = None
    correction: Any = None
    by: str | None = None
    """The kind of program that says so: an LLM, code. It is no user's vote."""
    id: str | None = None
    """Its id in that system."""
    tags: Mapping[str, Any] = field(default_factory=dict)

    def vote(self, names: Names) -> Vote:
        """The vote. Raises VoteError, with the field in our words."""
        said = self._counts(names)
        words = _clean(self.comment)
        note = words if said or not self.name else as_note(self.name, self.value, words, by=self.by)
        item: dict[str, Any] = {**said, "source": self._source(), "tags": self._tags()}
        if note is not None:
            item["comment"] = note[: _LONGEST["comment"]]
        if not said and note is None:
            raise VoteError("value", "neither a value nor a comment; there is nothing to keep")
        called = self._names()
        if not called and self.session is not None:
            item |= {"conversation": self.session, "user": self.user}
        else:
            item["record_id"] = called[0] if called else None
        external = None if self.id is None else external_id(self.system, self.id)
        return parse_vote(item, external=external, other_names=called[1:])

    def change(self, names: Names) -> Vote:
        """A change of the vote under its id: what it does not say stays. Raises VoteError."""
        said: dict[str, Any] = names.change(self.value) if self.thumb is None else {"feedback": self.thumb}
        if (correction := _correction(self.correction)) is not None:
            said["correction"] = correction
        if (words := _clean(self.comment)) is not None:
            said["comment"] = words[: _LONGEST["comment"]]
        if not said:
            raise VoteError("value", "nothing that a vote could be changed to")
        assert self.id is not None  # a change without it is no request that any route takes
        return parse_vote(said, external=external_id(self.system, self.id), amends=True, nameless=True)

    def _counts(self, names: Names) -> dict[str, Any]:
        person = self.by is None
        said = names.meaning(self.name, self.value, person=person) if self.thumb is None else {"feedback": self.thumb}
        if not self._names() and self.session is not None:
            return {key: value for key, value in said.items() if key == "feedback"}
        correction = _correction(self.correction) if person else None
        return said if correction is None else said | {"correction": correction}

    def _names(self) -> list[str]:
        """All that it has, each once; what is too long to be any record's only where there is nothing else."""
        names = list(dict.fromkeys(name for name in (self.record_id, *self.other_names) if name))
        return [name for name in names if len(name) <= MAX_ID] or names

    def _source(self) -> str:
        source = self.user or self.id or self.system
        if len(source) <= _LONGEST["source"]:
            return source
        return f"sha256:{sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()}"

    def _tags(self) -> dict[str, str]:
        named = {"system": self.system, "name": self.name, **self.tags}
        texts = {key: as_text(value) for key, value in named.items()}
        return {key: text[: _LONGEST["tag"]] for key, text in texts.items() if text}


def external_id(system: str, id: str) -> str:
    """The id of one of that system's votes, among all systems'."""
    return f"{system}\0{id}"


def removal(system: str, id: str) -> Vote:
    """What takes back the vote under that id."""
    return parse_vote({"feedback": None}, external=external_id(system, id), nameless=True)


def as_object(value: Any, where: str) -> Mapping[str, Any]:
    """`value`, which has to be an object; raises VoteError."""
    if not isinstance(value, Mapping):
        raise VoteError(where, "not an object")
    return value


def first_text(*values: Any) -> str | None:
    """The first of them that is a text, and not an empty one; numbers are texts, too."""
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST:
            return str(value)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _clean(words: Any) -> str | None:
    return words if isinstance(words, str) and words.strip() else None


def _correction(value: Any) -> str | None:
    """What the answer should have been: a text, or the only text of an object."""
    if isinstance(value, Mapping):
        texts = [value[name] for name in _ANSWERS if isinstance(value.get(name), str)]
        return _clean(texts[0]) if len(texts) == 1 else None
    return _clean(value)
