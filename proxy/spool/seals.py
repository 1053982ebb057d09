"""What tells a frame of ours from any other bytes: a seal that is keyed with a secret of its segment.

A body may hold whatever a client likes, whole frames included; where a disk has damaged the bytes before it, the reader
searches for the next frame and would find those. So a segment begins with a secret that no client ever sees,

    magic   8 bytes   "RSPOOL2\\n"
    secret 16 bytes   random
    check   8 bytes   BLAKE2b of both

and the seal before each payload is

    length  u32 LE    bytes of the payload
    seal    u64 LE    hash of (place of the frame in the file, length), the lower half XOR CRC-32 of the payload

The upper half is compared before a byte of the payload is read, the lower one tells damage. The hash is multiply-shift,
(a·x + b mod 2¹²⁸) >> 64 with a and b of 128 bits that follow from the secret, which is strongly universal
(Dietzfelbinger 1996): whoever has seen no seal of the segment, and nobody does, guesses one with a chance of 2⁻⁶⁴,
however they try. A frame copied from another segment, or to another place, is no better. It is a hash of two numbers
and no more, for it is on the way of each request.

The secrets of a writer's segments follow from one in its lock file; that replaces a head that is damaged. Before there
were seals, a segment began with its first frame and each had its length and CRC-32 (`UNSEALED`); those stay readable.
"""

from __future__ import annotations

import secrets
import struct
from hashlib import blake2b
from typing import Final, Protocol

from zlib_ng.zlib_ng import crc32

__all__ = [
    "HEAD_BYTES",
    "SEAL_BYTES",
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
_KEYED: Final = struct.Struct("<IQ")
_UNKEYED: Final = struct.Struct("<II")
SEAL_BYTES: Final = _KEYED.size
"""What goes before each payload of a sealed segment."""
_LOW_64: Final = (1 << 64) - 1
_LOW_32: Final = (1 << 32) - 1


class Seal(Protocol):
    """How the frames of one file are marked."""

    begins: int
    """Where in the file the first frame is."""
    size: int
    """Bytes before each payload; the first four are its length."""

    def of(self, payload: bytes | memoryview, place: int) -> bytes:
        """What goes before `payload` in a frame that begins at offset `place` of the file."""
        ...

    def checksum(self, data: bytes, offset: int, place: int) -> int:
        """CRC-32 of the payload of a frame at `place`, which begins at `offset` of `data`; -1 where no frame there can
        have this length. Reads no payload."""
        ...


class Keyed:
    """The seal of a segment with this secret."""

    __slots__ = ("_factor", "_summand", "begins", "size")

    def __init__(self, secret: bytes) -> None:
        self.begins = HEAD_BYTES
        self.size = SEAL_BYTES
        drawn = blake2b(secret, digest_size=32, person=b"spool seal").digest()
        self._factor, self._summand = int.from_bytes(drawn[:16]), int.from_bytes(drawn[16:])

    def of(self, payload: bytes | memoryview, place: int) -> bytes:
        """See `Seal`."""
        length = len(payload)
        mask = (self._factor * (place << 32 | length) + self._summand) >> 64 & _LOW_64
        return _KEYED.pack(length, mask ^ crc32(payload))

    def checksum(self, data: bytes, offset: int, place: int) -> int:
        """See `Seal`."""
        length, seal = _KEYED.unpack_from(data, offset)
        mask = (self._factor * (place << 32 | length) + self._summand) >> 64 & _LOW_64
        checksum: int = mask ^ seal  # more than 32 bits where the upper half is another
        return checksum if checksum <= _LOW_32 else -1


class _Unkeyed:
    """The length and a plain checksum."""

    __slots__ = ("begins", "size")

    def __init__(self) -> None:
        self.begins = 0
        self.size = _UNKEYED.size

    def of(self, payload: bytes | memoryview, place: int) -> bytes:
        return _UNKEYED.pack(len(payload), crc32(payload))

    def checksum(self, data: bytes, offset: int, place: int) -> int:
        checksum: int = _UNKEYED.unpack_from(data, offset)[1]
        return checksum


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
