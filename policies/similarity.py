"""What two texts have in common, told from small fingerprints instead of the texts.

Alike means: the Jaccard similarity J of the sets of three-word shingles reaches a threshold. Comparing every pair is
hopeless, so each text becomes a sketch:

* **Differences**, of questions and of short answers: shingles are summed by XOR in 128 buckets. What both texts have
  falls out of the XOR of two such sums, so that the buckets that differ count the differing shingles (those that share
  one are reckoned with). J follows, as good as exactly, as it must for short texts: a template with a short item has
  thousands of neighbours just below the threshold, and an estimate would take some of them for duplicates of each.
* **MinHash** (Broder 1997), of longer answers: the smallest value of a text's shingles in each of 128 permutations; J
  is estimated by the share of permutations in which two texts agree. The permutations come from outside (`MinHash`),
  so that a library can do the counting. A byte of each is kept; the standard error of the estimate is √(J(1 − J)/128),
  0.03 at J = 0.85.
* **Banding**: permutations are grouped into bands of r, and samples of which one of b bands is equal in question and
  answer both are candidates: a chance of 1 − (1 − J²ʳ)ᵇ. r is the largest (of 16, 8, 3, 2, 1) and then b the smallest
  that find 99 % at the threshold: a band costs as much in an index of millions as the rest of the fingerprint together.

Of a text beyond 2,000 words the first and the last thousand are compared like this, and what is between them must be
the same. Nothing depends on PYTHONHASHSEED.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import repeat
from math import log1p
from struct import unpack
from typing import NamedTuple
from zlib import crc32

__all__ = ["PERMUTATIONS", "Banding", "Fingerprint", "MinHash", "Sketching", "alike", "banding", "digest"]

PERMUTATIONS = 128
MinHash = Callable[[Iterable[bytes]], bytes]
"""The smallest hash of some shingles in each permutation: 128 numbers of 32 bits, the lowest byte first."""
_DIFFERENT = 12
"""Shingles that may differ between two questions: two words changed, three shingles each, on either side."""
_CHANCE = 1 / 256  # two unequal minima agree in the eight bits that are kept
_RECALL = 0.99
_BANDS = 24
_WORDS = 2000
_ODD = 0x9E3779B97F4A7C15
_MASK63 = 2**63 - 1
_BUCKETED = PERMUTATIONS + 2
"""Bytes of the buckets, and of how many shingles are in them."""
_NO_BUCKETS = bytes(_BUCKETED)
_SHORT = 200
_TELLING = 96
"""Differing buckets up to which they tell how many shingles differ; beyond that nearly all have several."""
_MARKS = ".,;:!?\"'`()[]{}“”‘’«»…。、，！？「」（）"
_PROSE = str.maketrans(dict.fromkeys(_MARKS, " "))
_ASCII_PROSE = bytes(32 if at < 33 or (at < 128 and chr(at) in _MARKS) else at for at in range(256))
_ASCII_SPACE = bytes(32 if chr(at).isspace() and at < 128 else at for at in range(256))
# Scripts written without spaces: every character is a word.
_UNSPACED = re.compile(
    r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af])"
)
_NUMBER = re.compile(r"\b\d+\b")
"""A number that stands by itself, and is no part of a name like `word17`."""


@dataclass(slots=True, kw_only=True)
class Fingerprint:
    """What the index keeps of a sample. Nobody changes one."""

    digest: int
    """63-bit hash of context, question and answer up to case and white space."""
    bands: tuple[int, ...]
    """63-bit key of each band; samples that share one are candidates."""
    signature: bytes
    """What `alike` compares: `_BUCKETED` bytes of the question; of the answer as many, and a byte per permutation."""


class Banding(NamedTuple):
    """How candidates are found."""

    rows: int
    """Permutations per band."""
    bands: int


def banding(threshold: float) -> Banding:
    """The fewest bands of the most rows with which a pair at `threshold` becomes a candidate with a chance of 99 %."""
    for rows in (16, 8, 3, 2, 1):
        missed = 1.0 - threshold ** (2 * rows)
        for bands in range(1, min(PERMUTATIONS // rows, _BANDS) + 1):
            if missed**bands <= 1.0 - _RECALL:
                return Banding(rows, bands)
    return Banding(1, PERMUTATIONS)


def digest(question: str, answer: str, context: bytes) -> int:
    """Of folded texts, up to white space; it fits SQLite's signed 64 bits."""
    text = b"\0".join((_spaced(question), _spaced(answer), context))
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def alike(one: bytes, other: bytes, threshold: float) -> bool:
    """Whether the samples behind two signatures are near duplicates: their questions, and their answers.

    Questions differ besides in at most 12 shingles.
    """
    asked, answered = slice(_BUCKETED), slice(_BUCKETED, None)
    if _differing(one[asked], other[asked]) > _DIFFERENT:
        return False
    return similarity(one[asked], other[asked]) >= threshold and similarity(one[answered], other[answered]) >= threshold


def similarity(one: bytes, other: bytes) -> float:
    """Of two texts by their parts of the signatures, 0 to 1.

    As good as exact for short texts, and for questions that are alike; else estimated.
    """
    left, right = _counted(one), _counted(other)
    if left and right and ((differ := _differing(one, other)) <= _TELLING or len(one) == _BUCKETED):
        differ = _shingles_behind(differ, left + right)
        return max(0.0, (left + right - differ) / (left + right + differ))
    share = _equal(one[_BUCKETED:], other[_BUCKETED:]) / PERMUTATIONS
    return max(0.0, (share - _CHANCE) / (1.0 - _CHANCE))


class Sketching:
    """Makes fingerprints of samples."""

    def __init__(self, minhash: MinHash, layout: Banding) -> None:
        self._bands = range(layout.bands)
        self._sketch = partial(_sketch, minhash, layout)
        self._remembered = lru_cache(maxsize=4096)(self._sketch)

    def fingerprint(self, question: str, answer: str, context: bytes, known: int) -> Fingerprint:
        """Of folded texts, whose digest is `known`. Context and numbers are part of a band's key."""
        asked, answered = self._sketch_of(question, True), self._sketch_of(answer, False)
        exact = context + asked.exact + answered.exact
        salt = int.from_bytes(blake2b(exact, digest_size=8).digest(), "big") if exact else 0
        keys = map(hash, zip(repeat(salt), self._bands, asked.rows, answered.rows))
        return Fingerprint(
            digest=known, bands=tuple([key & _MASK63 for key in keys]), signature=asked.signature + answered.signature
        )

    def _sketch_of(self, folded: str, asked: bool) -> _Sketch:
        """Short texts are remembered: many ask the same in a few words, and many answers are one."""
        return (self._remembered if len(folded) <= _SHORT else self._sketch)(folded, asked)


class _Sketch(NamedTuple):
    """What is kept of a text."""

    rows: tuple[tuple[int, ...], ...]
    """The minima of each band."""
    signature: bytes
    """Its buckets with how many shingles are in them, or none; of an answer a byte of every minimum, too."""
    exact: bytes
    """What must be the same: the digest of what is between the parts that are compared, a question's numbers."""


def _sketch(minhash: MinHash, layout: Banding, folded: str, asked: bool) -> _Sketch:
    shingles, exact = _shingles(folded)
    minima = minhash(shingles)
    count = layout.rows * layout.bands
    drawn = iter(unpack(f"<{count}I", minima[: 4 * count]))
    rows = tuple(zip(*[drawn] * layout.rows, strict=True))  # an iterator given `rows` times hands out so many in a row
    buckets = _buckets(set(shingles)) if asked or len(folded) <= _SHORT else _NO_BUCKETS
    if asked:
        exact += b"\0".join([number.encode() for number in _NUMBER.findall(folded)])
    return _Sketch(rows, buckets if asked else buckets + minima[::4], exact)


def _spaced(text: str) -> bytes:
    """With one space wherever there was white space."""
    if not text.isascii():
        return " ".join(text.split()).encode("utf-8", "surrogatepass")
    spaced = text.encode().translate(_ASCII_SPACE).strip()
    return spaced if b"  " not in spaced else b" ".join(spaced.split())


def _words(folded: str) -> list[bytes]:
    """Words without prose punctuation; signs of arithmetic and code stay, for 2 + 2 is not 2 * 2."""
    if folded.isascii():
        return folded.encode().translate(_ASCII_PROSE).split()
    return _spaced(_UNSPACED.sub(r" \1 ", folded).translate(_PROSE)).split()


def _shingles(folded: str) -> tuple[list[bytes], bytes]:
    """Every run of three words, the whole text when it is shorter; digest of what a text too long has between those
    that were looked at."""
    words, between = _words(folded), b""
    if len(words) > _WORDS:
        middle = b" ".join(words[_WORDS // 2 : -_WORDS // 2])
        between = blake2b(middle, digest_size=8).digest()
        words = words[: _WORDS // 2] + words[-_WORDS // 2 :]
    if len(words) < 3:
        return [b" ".join(words)], between
    return list(map(b" ".join, zip(words, words[1:], words[2:], strict=False))), between


def _buckets(shingles: Collection[bytes]) -> bytes:
    """The XOR of the hashes in each bucket, a byte of it. Multiplied, they are no linear codes any more. Then how many
    there are."""
    buckets = [0] * PERMUTATIONS
    for shingle in shingles:
        value = crc32(shingle) * _ODD >> 24
        buckets[value & 127] ^= value >> 7
    return bytes([bucket & 255 for bucket in buckets]) + len(shingles).to_bytes(2, "little")


def _counted(part: bytes) -> int:
    """How many shingles are in the buckets; 0 where there are none."""
    return int.from_bytes(part[PERMUTATIONS:_BUCKETED], "little")


def _differing(one: bytes, other: bytes) -> int:
    """How many buckets differ."""
    return PERMUTATIONS - _equal(one[:PERMUTATIONS], other[:PERMUTATIONS])


def _shingles_behind(differing: int, total: int) -> int:
    """How many shingles so many differing buckets are, where two texts have `total` together. Some share a bucket, by
    chance (linear counting), and what two texts do not share is even or odd as all that they have."""
    likely = -PERMUTATIONS * log1p(-differing / PERMUTATIONS)
    odd = total & 1
    return 2 * round((likely - odd) / 2) + odd


def _equal(one: bytes, other: bytes) -> int:
    """How many bytes of two times 128 are the same."""
    left, right = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    return (left ^ right).to_bytes(PERMUTATIONS, "little").count(0)
