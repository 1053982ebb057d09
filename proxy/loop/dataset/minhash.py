"""MinHash by rensa: what `policies.similarity` compares texts by."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from rensa import RMinHash

from policies.similarity import PERMUTATIONS

__all__ = ["minhash"]

_SEED = 1
_PACKED = Struct(f"<{PERMUTATIONS}I")


def minhash(shingles: Iterable[bytes]) -> bytes:
    """The smallest hash of the shingles in each of 128 permutations (policies.similarity.MinHash)."""
    sketch = RMinHash(PERMUTATIONS, _SEED)
    sketch.update(shingles)
    return _PACKED.pack(*sketch.digest())
