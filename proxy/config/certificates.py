"""From when until when a certificate is good: the two times in its DER (RFC 5280 §4.1), and nothing else of it.

The standard library loads certificates and does not say when they end; a service that is restarted with one that ended
last night is worth a sentence before that.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

__all__ = ["first_certificate", "valid_between"]

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18


def first_certificate(file: Path) -> bytes:
    """The DER of the first certificate in a PEM file. Raises OSError, ValueError."""
    found = _PEM.search(file.read_text("latin-1"))
    if found is None:
        raise ValueError(f"{file} holds no certificate in PEM form")
    return ssl.PEM_cert_to_DER_cert(found[0])


def valid_between(file: Path) -> tuple[float, float]:
    """Unix seconds of the first certificate in a PEM file: not before, not after. Raises OSError, ValueError."""
    try:
        return _validity(first_certificate(file))
    except IndexError:
        raise ValueError(f"{file}: its certificate is cut short") from None


def _validity(der: bytes) -> tuple[float, float]:
    inner = _inside(der, 0, _SEQUENCE)  # the certificate
    at = _inside(der, inner, _SEQUENCE)  # what is signed
    if der[at] == _VERSION:
        at = _after(der, at)
    for _ in range(3):  # serial number, algorithm, issuer
        at = _after(der, at)
    first = _inside(der, at, _SEQUENCE)
    return _instant(der, first), _instant(der, _after(der, first))


def _length(der: bytes, at: int) -> tuple[int, int]:
    """Of the element at `at`: where its content begins, and how long that is."""
    short = der[at + 1]
    if short < 0x80:
        return at + 2, short
    digits = short & 0x7F
    return at + 2 + digits, int.from_bytes(der[at + 2 : at + 2 + digits], "big")


def _inside(der: bytes, at: int, tag: int) -> int:
    if der[at] != tag:
        raise ValueError("a certificate that is built otherwise")
    return _length(der, at)[0]


def _after(der: bytes, at: int) -> int:
    start, length = _length(der, at)
    return start + length


def _instant(der: bytes, at: int) -> float:
    """UTCTime has two digits for the year, and those from 50 on are of the last century."""
    start, length = _length(der, at)
    text = der[start : start + length].decode("ascii")
    if der[at] == _UTC_TIME:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif der[at] != _TIME:
        raise ValueError("a certificate that is built otherwise")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
