"""Secrets in URLs are found by what their names mean, however they are written; nothing else is touched."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.targets import WORDS, blank_secrets

PLANTED = b"PLANTED777"


@pytest.mark.parametrize(
    ("target", "blanked"),
    [
        (b"/v1/models?a=1&subscription-key=P&b=2", b"/v1/models?a=1&subscription-key=[redacted]&b=2"),
        (b"/v1/models?%6bey=P", b"/v1/models?%6bey=[redacted]"),
        (b"/m;jsessionid=P/x?a=1;sig=P/y?z", b"/m;jsessionid=[redacted]/x?a=1;sig=[redacted]"),
        (b"/m#access_token=P&expires=9", b"/m#access_token=[redacted]&expires=9"),
        (b"https://user:P@host/x?code=P#id_token=P", b"https://[redacted]@host/x?code=[redacted]#id_token=[redacted]"),
        (b"/m?to=https%3A%2F%2Fx%2F%3Ftoken%3DP", b"/m?to=[redacted]"),
        (b"/m?o=%7B%22secret%22%3A%22P%22%7D", b"/m?o=[redacted]"),
        (b"/m?api.key=P&auth[x]=P&a-u_t-h=P", b"/m?api.key=[redacted]&auth[x]=[redacted]&a-u_t-h=[redacted]"),
        (b"/m?%252525252525252561=P", b"/m?%252525252525252561=[redacted]"),
        (b"/m?a=%252525252525252561", b"/m?a=[redacted]"),
        (b"/m?key%3DP", b"/m?[redacted]"),
        (b"/m?a=1&token%253dP#b", b"/m?a=1&[redacted]#b"),
        (b"/m?key=P;P&b=1", b"/m?key=[redacted]&b=1"),
        (b"/m?key=P;P;b=1#P", b"/m?key=[redacted];b=1#P"),
        (b"/m?token=P#P", b"/m?token=[redacted]"),
        (b"/m?to=http%3A%2F%2Fuser%3AP%40host", b"/m?to=[redacted]"),
    ],
)
def test_a_secret_is_blanked(target: bytes, blanked: bytes) -> None:
    assert blank_secrets(target) == blanked


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"*",
        b"/v1/models",
        b"/v1/x=1;y/z",
        b"/m?a=1&b=c=d&e",
        b"/m?a%3D1&b%20c;d=1;2#e%2Ff",
        b"/m?q=100%25&key=",
        b"/a@b?x=1",
        b"/m?model=gpt-4:free",
    ],
)
def test_what_is_no_secret_stays(target: bytes) -> None:
    assert blank_secrets(target) == target


@given(
    word=st.sampled_from(WORDS),
    around=st.tuples(*[st.text("ABCxyz019-_.", max_size=5)] * 2),
    upper=st.booleans(),
    times=st.integers(0, 5),
    encoded=st.sets(st.integers(0, 40)),
    split=st.integers(0, 8),
    mark=st.sampled_from([b"?", b"?a=1&", b"?a=1;", b"#", b"?a=1#", b";"]),
)
def test_however_the_name_is_written(
    word: bytes, around: tuple[str, str], upper: bool, times: int, encoded: set[int], split: int, mark: bytes
) -> None:
    inner = word.decode()[:split] + "-" + word.decode()[split:]
    name = around[0] + (inner.upper() if upper else inner) + around[1]
    for round_ in range(times):
        one_by_one = (f"%{ord(c):02X}" if at in encoded and not round_ else quote(c) for at, c in enumerate(name))
        name = "".join(one_by_one)
    assert PLANTED not in blank_secrets(b"/v1/models" + mark + name.encode() + b"=" + PLANTED)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(target: bytes) -> None:
    assert blank_secrets(blank_secrets(target)) == blank_secrets(target)
