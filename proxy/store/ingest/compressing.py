"""How hard a block of bodies is compressed: the more is in it, the less hard, and the less it needs the dictionary.

Measured with 1.6 KB a record, with the dictionary: of a block of one record level 6 makes 544 B and level 3 makes 714,
in 23 and 7 µs; of one of 64, 352 and 367 B a record in 15 and 6 µs. A block is small where traffic is low and nobody
waits for the CPU; at full traffic this was the dearest step of ingest.

A block of 64 says so much itself that the dictionary makes it a seventieth smaller, and zstd takes half as long again
to look in two places: there it does without. Of 16 it makes them a twentieth smaller.
"""

from __future__ import annotations

from typing import Any, Final

import zstandard

__all__ = ["Compressor"]

_HARD: Final = 6
"""The first level that makes much of a dictionary of blanked bodies: a block of one record is a fifth smaller than at
5."""
_QUICK: Final = 3
_SHORTEST_MATCH: Final = 5
"""Of the quick one, for which texts are looked through: a byte in seventy less than with its own 6."""
_QUICK_FROM_BYTES: Final = 24 * 1024
"""Of a block, about 16 records: from here on the quick one takes a twentieth more at most."""
_ALONE_FROM_BYTES: Final = 64 * 1024
"""About 40 records: from here on a block without the dictionary is a fortieth larger at most."""
_USUAL_BYTES: Final = 128 * 1024
"""Of a block at full traffic: zstd chooses its tables by it. Measured: smaller and quicker than without it."""


class Compressor:
    """Compresses blocks, with one dictionary or with none. For one thread at a time."""

    def __init__(self, dictionary: bytes | None = None) -> None:
        self._hard: Final = _compressor(dictionary, _HARD)
        self._quick: Final = _compressor(dictionary, _QUICK, min_match=_SHORTEST_MATCH)
        self._alone: Final = _compressor(None, _QUICK, min_match=_SHORTEST_MATCH)

    def compress(self, block: bytes) -> tuple[bytes, bool]:
        """The block as zstd writes it, and whether the dictionary has to be there to read it, or must not be."""
        if len(block) >= _ALONE_FROM_BYTES:
            return self._alone.compress(block), False
        return (self._hard if len(block) < _QUICK_FROM_BYTES else self._quick).compress(block), True


def _compressor(dictionary: bytes | None, level: int, **settings: Any) -> zstandard.ZstdCompressor:
    if dictionary is None:  # zstd sees how long each block is
        parameters = zstandard.ZstdCompressionParameters.from_level(level, **settings)
        return zstandard.ZstdCompressor(compression_params=parameters)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=_USUAL_BYTES, dict_size=len(dictionary), write_dict_id=False, **settings
    )
    words = zstandard.ZstdCompressionDict(dictionary)
    words.precompute_compress(compression_params=parameters)
    return zstandard.ZstdCompressor(dict_data=words, compression_params=parameters)
