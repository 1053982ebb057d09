"""Duplicates among training samples: exact ones by hash, near ones by MinHash and banding.

A sample is three things (`Seen`): its *context*, which is all that the model was given besides the last user turn's
words (system prompt, earlier turns, calls and their results, attachments with their data, tools); its *question*, those
words; and its *answer*. An *exact* duplicate has all three the same up to case and white space. A *near* one has the
very same context, for a question about another document is another question, and the same numbers in its question, for
17 is no wording of 18; and its question and its answer are alike, each by itself: a long answer that is given to
everybody must not make different questions look the same.

Alike means: the Jaccard similarity J of the sets of three-word shingles reaches the threshold. For questions it means
besides that at most 12 shingles are different, which is two words changed: else a long template with a short item to
classify would look the same whatever the item. Comparing every pair is hopeless, so each text becomes a sketch:

* **Shingle hash.** A word is its CRC-32; a shingle's hash is the XOR of its three, each multiplied by an odd number
  for its position, of which the middle 32 of 64 bits count: after tabulation hashing, which behaves well for minwise
  hashing (Pătraşcu and Thorup, *The Power of Simple Tabulation Hashing*, 2012). All shingles of a text are made at
  once, in the arithmetic of one long integer. Nothing depends on PYTHONHASHSEED.
* **One-permutation MinHash** (Li, Owen, Zhang 2012): the low bits of a shingle's hash choose one of 128 bins, each bin
  keeps its smallest hash. J is estimated by the share of equal bins among those that are filled in either text.
* **Differences**: shingles are summed by XOR in 128 buckets. What both texts have falls out of the XOR of two such
  sums, so that the buckets that differ count the differing shingles: never too many, and hardly ever two too few.
* **Banding**: bins are grouped into bands of r, and samples of which one of b bands is equal in question and answer
  both are candidates: a chance of 1 − (1 − J²ʳ)ᵇ. r is the largest (of 16, 8, 3, 2, 1) and then b the smallest that
  find 99 % at the threshold: a band costs as much in an index of millions as the rest of the fingerprint together.
  Context and numbers are part of a band's key. For this step alone an empty bin borrows from a filled one: a band looks
  at random places of all bins in four orders, one after the other, for the next filled one (densification after
  Shrivastava 2014 and 2017), so that short texts have bands too, and no one shingle fills a whole band.

The standard error of the estimate is at most √(J(1 − J)/128), 0.03 at J = 0.85; it vanishes for texts so short that
every shingle has a bin of its own. Of a text beyond 2,000 words the first and the last thousand are compared like this,
and what is between them must be the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from struct import pack, unpack
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from policies.conversation import Conversation, ToolCall, Turn

__all__ = ["Banding", "Deduper", "Duplicate", "Fingerprint", "Index", "MemoryIndex", "Seen", "banding", "fingerprint",
           "seen_of", "similarity"]  # fmt: skip

BINS = 128
_DIFFERENT = 12
"""Shingles that may differ between two questions: two words changed, three shingles each, on either side."""
_CHANCE = 1 / 128  # two unequal filled bins agree in the seven bits that are kept
_RECALL = 0.99
_BANDS = 24
_WORDS = 2000
_FACTORS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)  # odd, 32 bits
_MASK63 = 2**63 - 1
_SHORT = 200
_LANES = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * (_WORDS + 2), "little")
_MARKS = ".,;:!?\"'`()[]{}“”‘’«»…。、，！？「」（）"
_PROSE = str.maketrans(dict.fromkeys(_MARKS, " "))
_ASCII_PROSE = bytes(32 if at < 33 or (at < 128 and chr(at) in _MARKS) else at for at in range(256))
# Scripts written without spaces: every character is a word.
_UNSPACED = re.compile(
    r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af])"
)
_NUMBER = re.compile(r"\b\d+\b")
"""A number that stands by itself, and is no part of a name like `word17`."""


class Duplicate(StrEnum):
    """In what way a text was seen before."""

    EXACT = "exact_duplicate"
    NEAR = "near_duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A sample as duplicates are told by."""

    question: str
    answer: str
    """Words, and the calls of tools with their arguments; not what was thought."""
    context: bytes = b""
    """Digest of all else that the model was given; empty where that is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What the index keeps of a sample."""

    digest: int
    """63-bit hash of context, question and answer up to case and white space."""
    bands: tuple[int, ...]
    """63-bit key of each band; samples that share one are candidates."""
    signature: bytes
    """A byte per bin: 128 of the question, 128 of the answer; then the question's 128 buckets."""


class Banding(NamedTuple):
    """How candidates are found."""

    rows: int
    """Bins per band."""
    bands: int


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

    def __init__(self, threshold: float, index: Index) -> None:
        """Near duplicates have an estimated similarity of at least `threshold` (0 to 1), question and answer both."""
        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"near_duplicate_threshold: {threshold} is not in (0, 1]")
        self._threshold = threshold
        self._banding = banding(threshold)
        self._index = index

    def seen(self, question: str, answer: str, context: bytes = b"") -> Duplicate | None:
        """How a sample repeats an earlier one; None when it is new, and from then on it counts as seen."""
        folded = question.casefold(), answer.casefold()
        digest = _digest(*folded, context)
        if self._index.has(digest):
            return Duplicate.EXACT
        item = _fingerprint(digest, *folded, context, self._banding)
        for signature in self._index.candidates(item.bands):
            if _few_differ(signature, item.signature) and similarity(signature, item.signature) >= self._threshold:
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


def fingerprint(question: str, answer: str, layout: Banding, context: bytes = b"") -> Fingerprint:
    """The fingerprint of a sample with the bands of `layout`."""
    folded = question.casefold(), answer.casefold()
    return _fingerprint(_digest(*folded, context), *folded, context, layout)


def similarity(one: bytes, other: bytes) -> float:
    """Estimated similarity (0 to 1) of the samples behind two signatures: of the questions or answers, the lesser."""
    return min(_jaccard(one[:BINS], other[:BINS]), _jaccard(one[BINS : 2 * BINS], other[BINS : 2 * BINS]))


def banding(threshold: float) -> Banding:
    """The fewest bands of the most bins with which a pair at `threshold` becomes a candidate with a chance of 99 %."""
    for rows in (16, 8, 3, 2, 1):
        missed = 1.0 - threshold ** (2 * rows)
        for bands in range(1, min(BINS // rows, _BANDS) + 1):
            if missed**bands <= 1.0 - _RECALL:
                return Banding(rows, bands)
    return Banding(1, BINS)


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
            parts += (turn.name or "", order.get(turn.call_id, ""))
        if not isinstance(turn.content, str):
            _take_pieces(turn, parts if turn is not asked else [], exact)
        elif turn is not asked:
            parts.append(turn.content)
        for call in turn.calls:
            order[call.id] = str(len(order))
            parts.append(_call(call))
    exact += map(_canonical, said.tools)
    words = " ".join(" \0 ".join(parts).casefold().split())  # neither mark is white space
    text = "\0".join((words, *exact)) if exact else words
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _take_pieces(turn: Turn, words: list[str], exact: list[str]) -> None:
    """The texts of a content in pieces, and its attachments with their data, whose case counts."""
    for piece in turn.content:
        if isinstance(piece, str):
            words.append(piece)
        else:
            exact.append(f"{len(words)} {piece.medium} {'' if piece.part is None else _canonical(piece.part)}")


def _canonical(content: Mapping[str, Any] | Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


# Sketches


def _fingerprint(digest: int, question: str, answer: str, context: bytes, layout: Banding) -> Fingerprint:
    """Of folded texts whose digest is known."""
    asked, answered = _sketch_of(question, True), _sketch_of(answer, False)
    exact = (context, asked.between, answered.between, *_NUMBER.findall(question))
    salt = 0
    if any(exact):
        text = b"\0".join(part if isinstance(part, bytes) else part.encode() for part in exact)
        salt = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
    return Fingerprint(
        digest=digest,
        bands=_bands(asked.circle, answered.circle, salt, layout),
        signature=asked.minima + answered.minima + asked.buckets,
    )


class _Sketch(NamedTuple):
    """What is kept of a text."""

    minima: bytes
    circle: bytes
    buckets: bytes
    between: bytes


def _sketch_of(folded: str, asked: bool) -> _Sketch:
    """Many ask the same in a few words, of different documents, and many answers are a word: those are remembered."""
    return (_remembered if len(folded) <= _SHORT else _sketch)(folded, asked)


def _sketch(folded: str, asked: bool) -> _Sketch:
    hashes, between = _shingles(folded)
    minima = _minima(hashes)
    return _Sketch(minima, _circle(minima), _buckets(hashes) if asked else b"", between)


_remembered = lru_cache(maxsize=4096)(_sketch)


def _digest(question: str, answer: str, context: bytes) -> int:
    """Of folded texts, up to white space; it fits SQLite's signed 64 bits."""
    text = b"\0".join((_spaced(question), _spaced(answer), context))
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def _spaced(text: str) -> bytes:
    """With one space wherever there was white space."""
    if text.isascii():
        return b" ".join(text.encode().split())
    return " ".join(text.split()).encode("utf-8", "surrogatepass")


def _words(folded: str) -> list[bytes]:
    """Words without prose punctuation; signs of arithmetic and code stay, for 2 + 2 is not 2 * 2."""
    if folded.isascii():
        return folded.encode().translate(_ASCII_PROSE).split()
    return _spaced(_UNSPACED.sub(r" \1 ", folded).translate(_PROSE)).split()


def _shingles(folded: str) -> tuple[tuple[int, ...], bytes]:
    """The hash (32 bits) of every run of three words, of the whole text when it is shorter; digest of what a text too
    long has between those that were looked at."""
    words, between = _words(folded), b""
    if len(words) > _WORDS:
        middle = b" ".join(words[_WORDS // 2 : -_WORDS // 2])
        between = blake2b(middle, digest_size=8).digest()
        words = words[: _WORDS // 2] + words[-_WORDS // 2 :]
    elif len(words) < 3:
        words = [*words, b"", b"", b""][:3]
    count = len(words) - 2
    lanes = int.from_bytes(pack(f"<{count + 2}Q", *map(crc32, words)), "little")
    mixed = lanes * _FACTORS[0] ^ lanes * _FACTORS[1] >> 64 ^ lanes * _FACTORS[2] >> 128
    data = (mixed >> 28 & _LANES).to_bytes(8 * count + 16, "little")
    return unpack(f"<{count}Q", data[: 8 * count]), between


def _minima(hashes: Sequence[int]) -> bytes:
    """A byte of the smallest hash of each bin: seven bits and a mark, or 0 for an empty bin."""
    descending = sorted(hashes, reverse=True)  # the smallest of a bin comes last, and stays in the dictionary
    data = pack(f"<{len(descending)}I", *descending)
    smallest = dict(zip(data[::4].translate(_BIN), data[1::4].translate(_MARKED), strict=True))
    return bytes((_EMPTY_BINS | smallest).values())


def _buckets(hashes: Iterable[int]) -> bytes:
    """The XOR of the hashes in each bucket, a byte of it. The bits are not those of bins and minima."""
    buckets = [0] * BINS
    for value in hashes:
        buckets[value >> 24 & 127] ^= value >> 16
    return bytes([bucket & 255 for bucket in buckets])


def _bands(question: bytes, answer: bytes, salt: int, layout: Banding) -> tuple[int, ...]:
    """A key for each band, in which every bin of question and answer (their circles) and the salt count."""
    count = layout.bands * layout.rows
    # An iterator given `rows` times hands out as many bins in a row: those of a band, of question and answer.
    bins = [iter(_drawn(circle, count)) for circle in (question, answer)]
    rows = [each for drawn in bins for each in [drawn] * layout.rows]
    return tuple([key & _MASK63 for key in map(hash, zip(repeat(salt), range(layout.bands), *rows))])


def _circle(minima: bytes) -> bytes:
    """The bins in four orders, one after the other; an empty place has the value of the next filled one."""
    twice = minima + minima
    value = int.from_bytes(b"".join([order.translate(twice) for order in _ORDERS]), "little")
    filled = (value >> 7 & _ONES) * 255
    step = 8
    while filled != _FULL:
        value |= (value >> step | value << _CIRCLE_BITS - step) & (filled ^ _FULL)
        filled = (value >> 7 & _ONES) * 255
        step *= 2
    return value.to_bytes(4 * BINS, "little")


def _drawn(circles: bytes, count: int) -> bytes:
    """What is at `count` random places of two times 256, half of them in either."""
    half = count // 2
    return _PLACES[0][:half].translate(circles[:256]) + _PLACES[1][: count - half].translate(circles[256:])


def _jaccard(one: bytes, other: bytes) -> float:
    """Estimated Jaccard similarity of two texts, corrected for chance agreement."""
    left, right = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    empty = (left | right).to_bytes(BINS, "little").count(0)
    equal = (left ^ right).to_bytes(BINS, "little").count(0)
    share = (equal - empty) / (BINS - empty)
    return max(0.0, (share - _CHANCE) / (1.0 - _CHANCE))


def _few_differ(one: bytes, other: bytes) -> bool:
    """Whether at most 12 shingles of the questions behind two signatures are different."""
    left, right = (int.from_bytes(each[2 * BINS :], "little") for each in (one, other))
    return BINS - (left ^ right).to_bytes(BINS, "little").count(0) <= _DIFFERENT


def _shuffled(count: int, salt: bytes) -> bytes:
    """The numbers below `count` in an order that is the same everywhere."""
    return bytes(sorted(range(count), key=lambda at: blake2b(salt + bytes((at,)), digest_size=8).digest()))


_BIN = bytes(at & 127 for at in range(256))
_MARKED = bytes(at | 128 for at in range(256))
_EMPTY_BINS = dict.fromkeys(range(BINS), 0)
_PLACES = (_shuffled(256, b"4"), _shuffled(256, b"5"))
_ORDERS = (bytes(range(BINS)), *(_shuffled(BINS, b"%d" % at) for at in (1, 2, 3)))
_CIRCLE_BITS = 8 * 4 * BINS
_ONES = int.from_bytes(b"\1" * 4 * BINS, "little")
_FULL = (1 << _CIRCLE_BITS) - 1
