"""Record ids that prove themselves, and hashes of users that cannot be turned back.

A record's id is a UUIDv7: 48 bits of milliseconds, then random bits that only grow within a process, so that
ids sort by time. They grow on over a clock that goes back a little; one that is set back further is followed, for ids
date what they name, and 74 random bits keep them apart. What a client sees of it is one token, 36 characters that need
no escaping in a URL (RFC 3986 "unreserved"), the base 64 of 27 bytes in an alphabet that sorts as its values do:

    16 bytes   the UUID
    10 bytes   MAC: BLAKE2b keyed with a signing key, over the UUID, cut to 80 bits
     1 byte    which signing key

so feedback is checked without a database, by any process of this install, before its record was ingested,
and an id of another install is told apart. The token says nothing about the arm. Keys live in `keys.json`.

A rotation adds a key that signs only some time later, so that by then every process and host knows it: an id that
one of them signs is never a stranger to another. Older keys go on verifying.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import secrets
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from struct import Struct
from typing import Any, Final, NamedTuple

import orjson

from proxy.clock import Clock, SystemClock

__all__ = ["KEYS_FILE", "ForgedIdError", "KeyRing", "MintedId", "RecordIds", "Uuid7", "create_ring", "ids_beginning",
           "merge_rings", "minted_at", "new_ring"]  # fmt: skip

KEYS_FILE: Final = "keys.json"
_STANDARD: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SORTABLE: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_TO_TOKEN: Final = bytes.maketrans(_STANDARD, _SORTABLE)
_FROM_TOKEN: Final = bytes.maketrans(_SORTABLE, _STANDARD)
_TOKEN: Final = re.compile(r"[0-9A-Z_a-z~]{36}", re.ASCII)
_TOKEN_LENGTH: Final = 36
_PART: Final = re.compile(r"[0-9A-Z_a-z~]{4,36}", re.ASCII)
_UUID_BYTES: Final = 16
_MAC_BYTES: Final = 10
_PERSON: Final = b"ratchet record"
_KEY_BYTES: Final = 32
_NOTICE_S: Final = 600.0
"""Keys reach every host within seconds of being able to; this also covers a short outage, and clocks that differ."""
_REMEMBERED_USERS: Final = 4096
_LONGEST_REMEMBERED: Final = 256
_UNREAD: Final = (0, 0)
_HALVES: Final = Struct(">QQ")
_VERSION: Final = 0x7 << 12
_VARIANT: Final = 0b10 << 62
_HIGH_12: Final = (1 << 12) - 1
_LOW_62: Final = (1 << 62) - 1
_OUTLASTED_MS: Final = 1000
"""How far a clock may go back while ids go on growing."""


class ForgedIdError(ValueError):
    """A record id that this install did not sign: mistyped, made up, or another install's."""


class MintedId(NamedTuple):
    """A new record's id: the UUID (16 bytes) for us, the signed `token` (36 ASCII characters) for clients."""

    uuid: bytes
    token: bytes

    @property
    def hex(self) -> str:
        """The UUID as 32 hexadecimal characters."""
        return self.uuid.hex()

    @property
    def text(self) -> str:
        """The token."""
        return self.token.decode("ascii")


class Uuid7:
    """UUIDv7 generator (RFC 9562 §6.2, method 2): what one process makes only grows while no clock is set back."""

    __slots__ = ("_high", "_low", "_millisecond", "_random")

    def __init__(self) -> None:
        self._random = random.Random(secrets.token_bytes(32)).getrandbits  # uniqueness, not secrecy: ids carry a MAC
        self._millisecond = 0
        self._high = self._low = 0
        """The 12 random bits behind the version, and the 62 behind the variant."""

    def next_bytes(self, now_s: float) -> bytes:
        """The next id, 16 bytes; `now_s` in Unix seconds. A clock that stands, or goes back by a second at most, is
        outlasted; one that goes back further is followed."""
        millisecond = int(now_s * 1000)
        if millisecond > self._millisecond or millisecond < self._millisecond - _OUTLASTED_MS:
            self._begin(millisecond)
        else:
            self._low += 1 + self._random(32)
            if self._low > _LOW_62:
                self._low &= _LOW_62
                self._high += 1
                if self._high > _HIGH_12:
                    self._begin(self._millisecond + 1)
        return _HALVES.pack(self._millisecond << 16 | _VERSION | self._high, _VARIANT | self._low)

    def next_hex(self, now_s: float) -> str:
        """The next id as 32 hexadecimal characters."""
        return self.next_bytes(now_s).hex()

    def _begin(self, millisecond: int) -> None:
        self._millisecond = millisecond
        self._high = self._random(11)  # headroom for the steps
        self._low = self._random(62)


def minted_at(uuid_hex: str) -> float:
    """When a UUIDv7 was made, Unix seconds (to the millisecond)."""
    return int(uuid_hex[:12], 16) / 1000


class KeyRing:
    """The install's secrets: signing keys, newest last, and the pepper under which users are hashed."""

    def __init__(self, path: Path, clock: Clock | None = None, *, spare: Mapping[str, Any] | None = None) -> None:
        """`spare`: the ring that the file will hold, for as long as there is none. Raises OSError, ValueError."""
        self._path = path
        self._clock: Clock = clock or SystemClock()
        self._document: dict[str, Any] = {}
        self._stamp: tuple[int, int] = _UNREAD
        self._macs: dict[int, list[blake2b]] = {}
        """By id: one, but where two hosts have begun with keys of their own that happen to have the same id."""
        self._signers: list[blake2b] = []
        """The same in the order of the file."""
        self._signing_id = 0
        self._in_memory = spare is not None
        if spare is not None:
            self._take(spare)
        self.reload()

    def __repr__(self) -> str:
        return f"KeyRing({str(self._path)!r}, {len(self._macs)} keys)"

    @classmethod
    def load_or_create(
        cls, path: Path, clock: Clock | None = None, *, spare: Mapping[str, Any] | None = None
    ) -> KeyRing:
        """The ring in the file `path`, which is made (mode 0600) if it does not exist. Safe in a race.

        `spare`: somebody else makes it, and it will hold this ring (`create_ring`); until then this is the ring.
        Raises OSError where the file cannot be read or made, ValueError where it is no key ring.
        """
        if spare is None and not path.exists():
            create_ring(path, new_ring())
        return cls(path, clock, spare=spare)

    @property
    def path(self) -> Path:
        """Where its file is."""
        return self._path

    @property
    def key_ids(self) -> tuple[int, ...]:
        """Ids of the signing keys, oldest first."""
        return tuple(self._macs)

    @property
    def signing_id(self) -> int:
        """Id of the key that signs now."""
        return self._signing_id

    def signs_from(self, key_id: int) -> float:
        """When this key signs, or began to (Unix seconds; 0: from the beginning)."""
        return next(_signs_from(entry) for entry in self._document["signing"] if entry["id"] == key_id)

    def rotate(self, notice_s: float = _NOTICE_S) -> int:
        """Add a key that signs in `notice_s` seconds, keep the old ones, write the file; returns the new key's id."""
        with _one_writer(self._path):
            document = _read_ring(self._path)
            fresh = _new_key({entry["id"] for entry in document["signing"]})
            document["signing"].append({**fresh, "signs_from": self._clock.now() + notice_s})
            _write_secret(self._path, document).replace(self._path)
        self.reload()
        return int(fresh["id"])

    def document(self) -> dict[str, Any]:
        """The ring with its secrets, as in the file. Raises OSError, ValueError."""
        return _read_ring(self._path)

    def adopt(self, document: Mapping[str, Any], *, instead_of: Mapping[str, Any]) -> None:
        """Take a ring from elsewhere (`merge_rings`) in place of this one, and write the file.

        A key that was rotated in since the file was `instead_of` stays, and signs when its time has come.
        """
        with _one_writer(self._path):
            known = {_identity(entry) for ring in (document, instead_of) for entry in ring["signing"]}
            rotated = [entry for entry in _read_ring(self._path)["signing"] if _identity(entry) not in known]
            taken = {**document, "signing": [*document["signing"], *rotated]}
            _write_secret(self._path, taken).replace(self._path)
        self.reload()

    def reload(self) -> bool:
        """Read the file again if it was replaced since; True if it was. Call it often: a key may begin to sign."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            if not self._in_memory:
                raise
            self._choose_signer()
            return False
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            self._choose_signer()
            return False
        self._take(_read_ring(self._path))
        self._stamp = stamp
        self._in_memory = False
        return True

    def _take(self, document: Mapping[str, Any]) -> None:
        """Have this ring from now on."""
        self._macs, self._signers = {}, []
        for entry in document["signing"]:
            mac = blake2b(digest_size=_MAC_BYTES, key=bytes.fromhex(entry["key"]), person=_PERSON)
            self._macs.setdefault(entry["id"], []).append(mac)
            self._signers.append(mac)
        self._document = dict(document)
        self._choose_signer()
        self._pepper = bytes.fromhex(document["pepper"])
        self._user_hashes: dict[bytes, int] = {}

    def _choose_signer(self) -> None:
        now = self._clock.now()
        signing = self._document["signing"]
        place = max((place for place, entry in enumerate(signing) if _signs_from(entry) <= now), default=0)
        self._signing_id = signing[place]["id"]
        self._signer = self._signers[place]
        self._signature_end = self._signing_id.to_bytes()

    def sign(self, uuid: bytes) -> bytes:
        """MAC of a UUID's 16 bytes under the key that signs now, and that key's id: 11 bytes."""
        mac = self._signer.copy()
        mac.update(uuid)
        return mac.digest() + self._signature_end

    def signed(self, uuid: bytes, signature: bytes) -> bool:
        """True where `signature` is what `sign` gave, now or before a rotation. The comparison takes constant time."""
        found = False
        for keyed in self._macs.get(signature[-1], ()):
            mac = keyed.copy()
            mac.update(uuid)
            found |= compare_digest(mac.digest(), signature[:-1])
        return found

    def stamps(self, data: bytes, purpose: bytes) -> list[bytes]:
        """MACs of other data than ids, 8 bytes each: under the key that signs now first, then under all there are.
        `purpose` (16 bytes at most) keeps one use apart from others."""
        now = [entry for entry in self._document["signing"] if entry["id"] == self._signing_id]
        keys = [bytes.fromhex(entry["key"]) for entry in (*now[-1:], *self._document["signing"])]
        return [blake2b(data, digest_size=8, key=key, person=purpose).digest() for key in keys]

    def user_hash(self, key: bytes) -> int:
        """Signed 64-bit hash of a raw user key. Keyed: without `keys.json` it cannot be guessed back."""
        found = self._user_hashes.get(key)
        if found is None:
            found = int.from_bytes(blake2b(key, digest_size=8, key=self._pepper).digest(), "big", signed=True)
            if len(key) <= _LONGEST_REMEMBERED:
                if len(self._user_hashes) >= _REMEMBERED_USERS:
                    self._user_hashes.clear()
                self._user_hashes[key] = found
        return found


class RecordIds:
    """Mints and verifies record ids under a ring."""

    __slots__ = ("_ring", "_uuids")

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._uuids = Uuid7()

    def mint(self, now_s: float) -> MintedId:
        """A new id; `now_s` is the request's arrival in Unix seconds."""
        uuid = self._uuids.next_bytes(now_s)
        token = b2a_base64(uuid + self._ring.sign(uuid), newline=False).translate(_TO_TOKEN)
        return tuple.__new__(MintedId, (uuid, token))  # NamedTuple's own __new__ is slow

    def sign(self, uuid_hex: str) -> str:
        """The signed id of a record that is known by its UUID (32 hex characters), as its client got it."""
        uuid = bytes.fromhex(uuid_hex)
        return b2a_base64(uuid + self._ring.sign(uuid), newline=False).translate(_TO_TOKEN).decode("ascii")

    def verify(self, text: str) -> str:
        """The UUID (32 hex characters) of a signed id; raises ForgedIdError."""
        if not _TOKEN.fullmatch(text):
            raise ForgedIdError("not a record id: expected the 36 characters of the x-ratchet-record-id header")
        raw = a2b_base64(text.encode("ascii").translate(_FROM_TOKEN))
        uuid = raw[:_UUID_BYTES]
        if not self._ring.signed(uuid, raw[_UUID_BYTES:]):
            raise ForgedIdError("this record id was not signed here: it was altered, or comes from another install")
        return uuid.hex()

    def stamps(self, data: bytes, purpose: bytes) -> list[bytes]:
        """As `KeyRing.stamps`."""
        return self._ring.stamps(data, purpose)

    def user_hash(self, key: bytes) -> int:
        """As `KeyRing.user_hash`."""
        return self._ring.user_hash(key)

    def new_uuid(self, now_s: float) -> str:
        """An unsigned UUIDv7 (32 hex characters) from the same sequence, e.g. for a vote."""
        return self._uuids.next_hex(now_s)


def ids_beginning(text: str) -> tuple[str, str] | None:
    """The lowest and the highest UUID (32 hex characters) whose signed id begins with `text`; None: none can."""
    if not _PART.fullmatch(text):
        return None
    ends = (text.ljust(_TOKEN_LENGTH, chr(digit)) for digit in (_SORTABLE[0], _SORTABLE[-1]))
    low, high = (a2b_base64(end.encode("ascii").translate(_FROM_TOKEN))[:_UUID_BYTES].hex() for end in ends)
    return low, high


def new_ring() -> dict[str, Any]:
    """A ring of its own for a new install, as in the file."""
    return {"pepper": secrets.token_hex(_KEY_BYTES), "signing": [_new_key(set())]}


def create_ring(path: Path, document: Mapping[str, Any]) -> None:
    """Write `document` where there is no ring yet; where another process was first, its ring is the install's.

    Raises OSError."""
    scratch = _write_secret(path, document)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)
        _sync_folder(path.parent)
    finally:
        scratch.unlink()


def merge_rings(mine: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The ring that replicas share, with what this one's adds (both as in the file).

    Of two replicas of one install (the same pepper), a key that is not shared yet comes from a rotation, and signs when
    its time has come. A replica that had to begin with a ring of its own joins: what it signed stays valid, the shared
    key signs and the shared pepper counts, also where both keys happen to have the same id.
    """
    known = {_identity(entry) for entry in shared["signing"]}
    fresh = [entry for entry in mine["signing"] if _identity(entry) not in known]
    rotated = mine["pepper"] == shared["pepper"]
    signing = [*shared["signing"], *fresh] if rotated else [*fresh, *shared["signing"]]
    return {**shared, "signing": signing}


def _new_key(taken: set[int]) -> dict[str, Any]:
    free = [key_id for key_id in range(256) if key_id not in taken]
    if not free:
        raise ValueError("the key ring is full (256 signing keys): remove the oldest ones from keys.json")
    return {"id": secrets.choice(free), "key": secrets.token_hex(_KEY_BYTES)}


def _identity(entry: Mapping[str, Any]) -> tuple[int, str]:
    """An id is one byte: of two hosts that begin with keys of their own, one pair in 256 has the same."""
    return entry["id"], entry["key"]


def _signs_from(entry: Mapping[str, Any]) -> float:
    return float(entry.get("signs_from", 0.0))


def _read_ring(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = orjson.loads(path.read_bytes())
        keys = {
            entry["id"].to_bytes(): (bytes.fromhex(entry["key"]), _signs_from(entry)) for entry in document["signing"]
        }
        if not keys or len(bytes.fromhex(document["pepper"])) != _KEY_BYTES:
            raise ValueError("no signing key, or a pepper of the wrong length")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise ValueError(
            f"{path}: not a key ring ({exc}). Restore it from a backup; "
            "if you delete it, a new one is created and earlier record ids are refused"
        ) from exc
    return document


@contextlib.contextmanager
def _one_writer(path: Path) -> Iterator[None]:
    """Read the file and replace it while no other process does; where its folder cannot be locked, hope so."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write_secret(path: Path, document: Mapping[str, Any]) -> Path:
    """Write `document` durably beside `path`, readable by the owner only; returns the scratch file. Raises OSError."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb", buffering=0) as out:
            left = memoryview(orjson.dumps(dict(document), option=orjson.OPT_INDENT_2) + b"\n")
            while left:  # a disk that is nearly full takes a part of it
                left = left[out.write(left) :]
            os.fsync(descriptor)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    return scratch


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
