"""What tells a frame of ours from any other bytes: a seal that is keyed with a secret of its segment.

A body may hold whatever a client likes, whole frames included; where a disk has damaged the bytes before it, the reader
searches for the next frame and would find those. So a segment begins with a secret that no client ever sees,

    magic   8 bytes   "RSPOOL2\\n"
    secret 16 bytes   random
    check   8 bytes   BLAKE2b of both

and the seal before each payload is

    length  u32 LE    bytes of the payload
    seal    u64 LE    BLAKE2b of (secret, place of the frame in the file, length), lower half XOR CRC-32 of the payload

The upper half is compared before a byte of the payload is read, the lower one tells damage. Made-up bytes are taken for
a frame with a chance of 2⁻⁶⁴, and so is a frame copied from another segment or to another place. One short hash a
frame, whatever its size.

The secrets of a writer's segments follow from one in its lock file; that replaces a head that is damaged. Before there
were seals, a segment began with its first frame and each had its length and CRC-32 (`UNSEALED`); those stay readable.
"""

from __future__ import annotations

import secrets
import struct
from hashlib import blake2b
from typing import Final, Protocol
from zlib import crc32

__all__ = [
    "HEAD_BYTES",
    "SECRET_BYTES",
    "UNSEALED",
    "Keyed",
    "Seal",
    "new_secret",
    "seal_in",
    "secret_of",
    "segment_head",
]

SECRET_BYTES: Final = 16
HEAD_BYTES: Final = 32
"""What a sealed segment begins with."""
_MAGIC: Final = b"RSPOOL2\n"  # as the length of an unsealed frame it is more than any can have
_CHECK_BYTES: Final = 8
_PLACE: Final = struct.Struct("<QI")
_KEYED: Final = struct.Struct("<IQ")
_UNKEYED: Final = struct.Struct("<II")
_LENGTH: Final = struct.Struct("<I")


class Seal(Protocol):
    """How the frames of one file are marked."""

    begins: int
    """Where in the file the first frame is."""
    size: int
    """Bytes before each payload; the first four are its length."""

    def of(self, payload: bytes | memoryview, place: int) -> bytes:
        """What goes before `payload` in a frame that begins at offset `place` of the file."""
        ...

    def fits(self, data: bytes, offset: int, place: int) -> bool:
        """Whether a frame at `place`, which begins at `offset` of `data`, can have this length. Reads no payload."""
        ...


class Keyed:
    """The seal of a segment with this secret."""

    __slots__ = ("_begun",)
    begins = HEAD_BYTES
    size = _KEYED.size

    def __init__(self, secret: bytes) -> None:
        self._begun = blake2b(secret, digest_size=8)

    def of(self, payload: bytes | memoryview, place: int) -> bytes:
        """See `Seal`."""
        length = len(payload)
        mask = self._begun.copy()
        mask.update(_PLACE.pack(place, length))
        return _KEYED.pack(length, int.from_bytes(mask.digest(), "little") ^ crc32(payload))

    def fits(self, data: bytes, offset: int, place: int) -> bool:
        """See `Seal`."""
        length, seal = _KEYED.unpack_from(data, offset)
        mask = self._begun.copy()
        mask.update(_PLACE.pack(place, length))
        return int.from_bytes(mask.digest(), "little") >> 32 == int(seal) >> 32


class _Unkeyed:
    """The length and a plain checksum."""

    __slots__ = ()
    begins = 0
    size = _UNKEYED.size

    def of(self, payload: bytes | memoryview, place: int) -> bytes:
        return _UNKEYED.pack(len(payload), crc32(payload))

    def fits(self, data: bytes, offset: int, place: int) -> bool:
        return True


UNSEALED: Final[Seal] = _Unkeyed()


def new_secret() -> bytes:
    """A fresh secret."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_of(writer_secret: bytes, number: int) -> bytes:
    """The secret of segment `number` of the writer with this secret."""
    return blake2b(number.to_bytes(8, "little"), digest_size=SECRET_BYTES, key=writer_secret).digest()


def segment_head(secret: bytes) -> bytes:
    """What a segment with this secret begins with."""
    marked = _MAGIC + secret
    return marked + blake2b(marked, digest_size=_CHECK_BYTES).digest()


def seal_in(head: bytes) -> Seal | None:
    """The seal of a file that begins with `head` (HEAD_BYTES of it); None where that is no undamaged head."""
    secret = head[len(_MAGIC) : len(_MAGIC) + SECRET_BYTES]
    return Keyed(secret) if head[:HEAD_BYTES] == segment_head(secret) else None
