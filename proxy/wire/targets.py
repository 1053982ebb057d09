"""Secrets in URLs: which values of a target are blanked before it is written down anywhere.

Clients put keys, signed links and log-in codes into query strings, and every framework spells them in its own way. So
a name is not looked up in a list: it is decoded as often as anybody may decode it, stripped of everything but letters
and digits, and its value is blanked where one of `WORDS` is in it. That blanks a few values which are no secret
(`country_code`, `keyword`); of a secret in a log nobody says that it was worth it.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["BLANK", "WORDS", "blank_secrets"]

BLANK: Final = b"[redacted]"
WORDS: Final = (b"key", b"token", b"secret", b"sig", b"auth", b"pass", b"cred", b"session", b"jwt", b"code", b"sas")
"""What in a name makes its value a secret."""
_MOST_ESCAPED: Final = 5
_PARAMETER: Final = re.compile(rb"([?&;#])([^?&;#=]*)=([^&;#]*+(?>(?:[;#][^&;#=]*+(?=[&;#]|\Z))*))")
"""For most servers a semicolon is a part of the value, for some the end of it: both where no other name follows."""
_WHOLE: Final = re.compile(rb"([?&;#])([^?&;#=]*%[^?&;#=]*)(?=[&;#]|\Z)")
"""One whose equals sign may be encoded, too."""
_OF_PATH: Final = re.compile(rb"([;&])([^;&=/]*)=([^;&/]*)")
_QUERY: Final = re.compile(rb"[?#]")
_WITHIN: Final = re.compile(rb"""(?:^|[?&;#,{\s])["']?([^?&;#=:"'\s]{1,200})["']?\s*[=:]""")
"""Names in a value that is itself a query string, a URL with one, or JSON."""
_OTHER: Final = re.compile(rb"[^a-z0-9]+")
_USER: Final = re.compile(rb"(?i)(\b[a-z][a-z0-9+.-]{0,20}://)[^/?#@\s]*@")


def blank_secrets(target: bytes) -> bytes:
    """`target`, a URL or the part of it behind the host, with `[redacted]` in the place of every secret value: in its
    query, its fragment, the parameters of its path (`;jsessionid=…`), and its user and password."""
    if b"@" in target:
        target = _USER.sub(rb"\1" + BLANK + b"@", target)
    encoded = b"%" in target
    if not encoded and b"=" not in target:
        return target
    end = len(_QUERY.split(target, maxsplit=1)[0])
    query = target[end:]
    if encoded:
        query = _WHOLE.sub(_emptied, query)
    return _OF_PATH.sub(_blanked, target[:end]) + _PARAMETER.sub(_blanked, query)


def _blanked(found: re.Match[bytes]) -> bytes:
    mark, name, value = found.groups()
    if not value or not (_tells(name) or _holds_secret(value)):
        return found[0]
    return mark + name + b"=" + BLANK


def _emptied(found: re.Match[bytes]) -> bytes:
    return found[1] + BLANK if _holds_secret(found[2]) else found[0]


def _holds_secret(value: bytes) -> bool:
    plain = _decoded(value)
    return plain is None or _USER.search(plain) is not None or any(map(_named, _WITHIN.findall(plain)))


def _tells(name: bytes) -> bool:
    plain = _decoded(name)
    return plain is None or _named(plain)


def _named(name: bytes) -> bool:
    letters = _OTHER.sub(b"", name.lower())
    return any(word in letters for word in WORDS)


def _decoded(text: bytes) -> bytes | None:
    """Without its percent-encoding, however often it was encoded; None where that is more often than anybody does."""
    for _ in range(_MOST_ESCAPED):
        if b"%" not in text or (plain := unquote_to_bytes(text)) == text:
            return text
        text = plain
    return None
