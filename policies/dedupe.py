"""Duplicates among training samples: exact ones by hash, near ones by similarity (policies.similarity).

A sample is three things (`Seen`): its *context*, which is all that the model was given besides the last user turn's
words (system prompt, earlier turns, calls and their results, attachments with their data, tools); its *question*, those
words; and its *answer*. An *exact* duplicate has all three the same up to case and white space. A *near* one has the
very same context, for a question about another document is another question, and the same numbers in its question, for
17 is no wording of 18; and its question and its answer are alike, each by itself: a long answer that is given to
everybody must not make different questions look the same.

Alike means: the similarity of their words in threes reaches the threshold. For questions it means besides that at most
12 of these are different, which is two words changed: else a long template with a short item to classify would look the
same whatever the item.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol

from policies.conversation import Conversation, ToolCall, Turn
from policies.similarity import Fingerprint, MinHash, Sketching, alike, banding, digest

__all__ = ["Deduper", "Duplicate", "Index", "MemoryIndex", "Seen", "seen_of"]

_LONGEST_REMEMBERED = 20_000
"""Characters of a system prompt; its digest is remembered, and the prompt with it."""


class Duplicate(StrEnum):
    """In what way a text was seen before."""

    EXACT = "exact_duplicate"
    NEAR = "near_duplicate"


@dataclass(slots=True, kw_only=True)
class Seen:
    """A sample as duplicates are told by. Nobody changes one."""

    question: str
    answer: str
    """Words, and the calls of tools with their arguments; not what was thought."""
    context: bytes = b""
    """Digest of all else that the model was given; empty where that is nothing."""


class Index(Protocol):
    """Where fingerprints are kept. The dataset builder puts them into a temporary file, so that memory stays flat."""

    def has(self, digest: int) -> bool:
        """Whether a sample with this digest was added."""
        ...

    def candidates(self, bands: Sequence[int]) -> Iterable[bytes]:
        """Signatures of the added samples that share at least one of these bands."""
        ...

    def add(self, item: Fingerprint) -> None:
        """Remember a sample."""
        ...


class MemoryIndex:
    """An index in dictionaries: about 2.5 KB per text, for small sets and for tests."""

    def __init__(self) -> None:
        self._digests: set[int] = set()
        self._by_band: dict[int, list[bytes]] = {}

    def has(self, digest: int) -> bool:
        """Whether a text with this digest was added."""
        return digest in self._digests

    def candidates(self, bands: Sequence[int]) -> Iterable[bytes]:
        """Signatures of the added texts that share at least one of these bands, each once."""
        return {signature for band in bands for signature in self._by_band.get(band, ())}

    def add(self, item: Fingerprint) -> None:
        """Remember a text."""
        self._digests.add(item.digest)
        for band in item.bands:
            self._by_band.setdefault(band, []).append(item.signature)


class Deduper:
    """Says of each text whether it was seen before; the first of a group is the one that stays."""

    def __init__(self, threshold: float, index: Index, minhash: MinHash) -> None:
        """Near duplicates have an estimated similarity of at least `threshold` (0 to 1), question and answer both."""
        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"near_duplicate_threshold: {threshold} is not in (0, 1]")
        self._threshold = threshold
        self._sketching = Sketching(minhash, banding(threshold))
        self._index = index

    def seen(self, question: str, answer: str, context: bytes = b"") -> Duplicate | None:
        """How a sample repeats an earlier one; None when it is new, and from then on it counts as seen."""
        folded = question.casefold(), answer.casefold()
        known = digest(*folded, context)
        if self._index.has(known):
            return Duplicate.EXACT
        item = self._sketching.fingerprint(*folded, context, known)
        for signature in self._index.candidates(item.bands):
            if alike(signature, item.signature, self._threshold):
                return Duplicate.NEAR
        self._index.add(item)
        return None


def seen_of(said: Conversation, correction: str | None = None) -> Seen:
    """The parts by which it is told from others. A correction takes the answer's place."""
    asked = said.question
    answer = _spoken(said.answer) if correction is None else correction
    if asked is None:
        return Seen(question="", answer=answer, context=_context(said, None))
    if len(said.turns) == 1 and not said.tools and isinstance(asked.content, str):
        return Seen(question=asked.content, answer=answer)  # the most of them, and nothing else was given
    return Seen(question=asked.text, answer=answer, context=_context(said, asked))


# The parts of a sample


def _spoken(answer: Turn) -> str:
    """Words and calls in one text."""
    return "\n".join((answer.text, *map(_call, answer.calls))) if answer.calls else answer.text


def _call(call: ToolCall) -> str:
    """A call without its id, which is another in every run."""
    try:
        arguments = call.arguments if call.custom else _canonical(json.loads(call.arguments))
    except (ValueError, RecursionError):
        arguments = call.arguments
    return f"{call.name} {arguments}"


def _context(said: Conversation, asked: Turn | None) -> bytes:
    """Digest of the turns and tools, up to case and white space, without the words of the turn `asked`."""
    order: dict[str | None, str] = {}
    parts: list[str] = []
    exact: list[str] = []
    for turn in said.turns:
        parts += ("\1", turn.role)
        if turn.name or turn.call_id:
            parts += (_folded(turn.name or ""), order.get(turn.call_id, ""))
        if not isinstance(turn.content, str):
            _take_pieces(turn, parts if turn is not asked else [], exact)
        elif turn is not asked:
            parts.append(_prompt_of(turn.content) if turn.role == "system" else _folded(turn.content))
        for call in turn.calls:
            order[call.id] = str(len(order))
            parts.append(_folded(_call(call)))
    exact += map(_canonical, said.tools)
    words = "\0".join(parts)
    text = "\0".join((words, *exact)) if exact else words
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _prompt(text: str) -> str:
    """Digest of a system prompt, which often is long, and the same in every conversation of an application."""
    return blake2b(_folded(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_remembered_prompt = lru_cache(maxsize=32)(_prompt)


def _prompt_of(text: str) -> str:
    return (_remembered_prompt if len(text) <= _LONGEST_REMEMBERED else _prompt)(text)


def _take_pieces(turn: Turn, words: list[str], exact: list[str]) -> None:
    """The texts of a content in pieces, and its attachments with their data, whose case counts."""
    for piece in turn.content:
        if isinstance(piece, str):
            words.append(_folded(piece))
        else:
            exact.append(f"{len(words)} {piece.medium} {'' if piece.part is None else _canonical(piece.part)}")


def _canonical(content: Mapping[str, Any] | Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
