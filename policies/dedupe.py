"""Duplicates among training samples: exact ones by hash, near ones by MinHash and banding.

Two samples are *near* duplicates when their questions are alike and their answers are alike: when the Jaccard
similarity J of the sets of three-word shingles reaches a threshold for both. Each counts by itself, because a long
answer that is given to everybody must not make different questions look the same. Comparing every pair is hopeless, so
each text becomes a fixed signature whose agreement estimates J:

* **Shingle hash.** Simple tabulation: each word has one BLAKE2b value per position in a shingle, and a shingle's hash
  is the XOR of its three. Simple tabulation behaves well for minwise hashing (Pătraşcu and Thorup, *The Power of
  Simple Tabulation Hashing*, 2012), and a cache of words makes it cheap. Nothing depends on PYTHONHASHSEED.
* **One-permutation MinHash** (Li, Owen, Zhang 2012): the low bits of a shingle's hash choose one of 128 bins, each bin
  keeps its smallest hash. J is estimated by the share of equal bins among those that are filled in either text.
* **Banding**: bins are grouped into bands of r, and samples of which one of b bands is equal in question and answer
  both are candidates: a chance of 1 − (1 − J²ʳ)ᵇ. r is the largest and then b the smallest that find 99 % at the
  threshold: a band costs as much in an index of millions as the rest of the fingerprint together. For this step alone
  an empty bin borrows from a filled one, the first in a random order of its own (Shrivastava, *Optimal Densification
  for Fast and Accurate Minwise Hashing*, 2017), so that short texts have bands too. Borrowing from the neighbour would
  be quicker, but would fill whole bands from one common shingle.

The standard error of the estimate is at most √(J(1 − J)/128), 0.03 at J = 0.85; it vanishes for texts so short that
every shingle has a bin of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from operator import xor
from struct import Struct
from typing import NamedTuple, Protocol

__all__ = ["Banding", "Deduper", "Duplicate", "Fingerprint", "Index", "MemoryIndex", "banding", "fingerprint",
           "similarity"]  # fmt: skip

BINS = 128
_MASK63 = 2**63 - 1
_EMPTY = 1 << 63  # larger than any hash, and the byte that the signature keeps is 0
_FILLED = 1 << 32  # set in every shingle's hash, so that a filled bin never shows the byte 0 in the signature
_CHANCE = 1 / 128  # two unequal filled bins agree in the seven other bits of that byte
_RECALL = 0.99
_CACHED_WORDS = 65_536
_COLUMN = Struct("<3Q")
_BINS_OF_BOTH = Struct(f"<{2 * BINS}Q")
_KEPT_BYTE = slice(4, None, 8)  # of each of these numbers: bits 32 to 39
_PROSE = str.maketrans(dict.fromkeys(".,;:!?\"'`()[]{}“”‘’«»…。、，！？「」（）", " "))
# Scripts written without spaces: every character is a word.
_UNSPACED = re.compile(
    r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af])"
)


class Duplicate(StrEnum):
    """In what way a text was seen before."""

    EXACT = "exact_duplicate"
    NEAR = "near_duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What the index keeps of a sample."""

    digest: int
    """63-bit hash of question and answer up to case and white space."""
    bands: tuple[int, ...]
    """63-bit key of each band; samples that share one are candidates."""
    signature: bytes
    """One byte per bin: 128 of the question, 128 of the answer."""


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

    def seen(self, question: str, answer: str) -> Duplicate | None:
        """How a sample repeats an earlier one; None when it is new, and from then on it counts as seen."""
        folded = question.casefold(), answer.casefold()
        digest = _digest(*folded)
        if self._index.has(digest):
            return Duplicate.EXACT
        item = _fingerprint(digest, *folded, self._banding)
        for signature in self._index.candidates(item.bands):
            if similarity(signature, item.signature) >= self._threshold:
                return Duplicate.NEAR
        self._index.add(item)
        return None


def fingerprint(question: str, answer: str, layout: Banding) -> Fingerprint:
    """The fingerprint of a sample with the bands of `layout`."""
    folded = question.casefold(), answer.casefold()
    return _fingerprint(_digest(*folded), *folded, layout)


def similarity(one: bytes, other: bytes) -> float:
    """Estimated similarity (0 to 1) of the samples behind two signatures: of the questions or answers, the lesser."""
    return min(_jaccard(one[:BINS], other[:BINS]), _jaccard(one[BINS:], other[BINS:]))


def banding(threshold: float) -> Banding:
    """The fewest bands of the most bins with which a pair at `threshold` becomes a candidate with a chance of 99 %."""
    for rows in (16, 8, 4, 2, 1):
        missed = 1.0 - threshold ** (2 * rows)
        for bands in range(1, BINS // rows + 1):
            if missed**bands <= 1.0 - _RECALL:
                return Banding(rows, bands)
    return Banding(1, BINS)


def _fingerprint(digest: int, question: str, answer: str, layout: Banding) -> Fingerprint:
    """The same of folded texts whose digest is known."""
    asked, answered = (_minima(_shingles(_words(text))) for text in (question, answer))
    bins = (_densified(each, layout.rows * layout.bands) for each in (asked, answered))
    # An iterator given `rows` times hands out as many bins in a row: those of a band, of question and answer.
    rows = [iterator for each in bins for iterator in [iter(each)] * layout.rows]
    return Fingerprint(
        digest=digest,
        bands=tuple([hash(band) & _MASK63 for band in zip(*rows, strict=True)]),
        signature=_BINS_OF_BOTH.pack(*asked, *answered)[_KEPT_BYTE],
    )


def _digest(question: str, answer: str) -> int:
    """Of folded texts, up to white space; it fits SQLite's signed 64 bits."""
    text = "\0".join(" ".join(text.split()) for text in (question, answer))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def _jaccard(one: bytes, other: bytes) -> float:
    """Estimated Jaccard similarity of two texts, corrected for chance agreement."""
    left, right = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    empty = (left | right).to_bytes(BINS, "little").count(0)
    equal = (left ^ right).to_bytes(BINS, "little").count(0)
    share = (equal - empty) / (BINS - empty)
    return max(0.0, (share - _CHANCE) / (1.0 - _CHANCE))


def _words(folded: str) -> list[str]:
    """Words without prose punctuation; signs of arithmetic and code stay, for 2 + 2 is not 2 * 2."""
    spaced = folded if folded.isascii() else _UNSPACED.sub(r" \1 ", folded)
    return spaced.translate(_PROSE).split()


def _shingles(words: list[str]) -> list[int]:
    """The hash of every run of three words; of the whole text when it is shorter."""
    padded = words if len(words) >= 3 else [*words, "", "", ""][:3]
    first, second, third = zip(*map(_COLUMNS.__getitem__, padded), strict=True)
    return list(map(xor, map(xor, first, second[1:]), third[2:]))


class _Columns(dict[str, tuple[int, int, int]]):
    """A word's hash for each of the three positions in a shingle, computed once while it stays in the cache."""

    def __missing__(self, word: str) -> tuple[int, int, int]:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=24).digest()
        first, second, third = (value & _MASK63 & ~_FILLED for value in _COLUMN.unpack(digest))
        columns = self[word] = (first | _FILLED, second, third)
        return columns


def _minima(hashes: list[int]) -> list[int]:
    """The smallest hash of each bin."""
    bins = [_EMPTY] * BINS
    for value in hashes:
        at = value & (BINS - 1)
        if value < bins[at]:
            bins[at] = value
    return bins


def _densified(bins: list[int], count: int) -> list[int]:
    """The first `count` bins with a value in each; at least one of all must be filled."""
    full = bins[:count]
    if _EMPTY in full:
        empty = bytes([at for at, value in enumerate(bins) if value == _EMPTY])
        full = [
            bins[_order(at).translate(None, empty)[0]] if value == _EMPTY else value for at, value in enumerate(full)
        ]
    return full


@cache
def _order(at: int) -> bytes:
    """All bins in an order of the bin `at`'s own."""
    return bytes(sorted(range(BINS), key=lambda other: blake2b(bytes((at, other)), digest_size=8).digest()))


_COLUMNS = _Columns()
