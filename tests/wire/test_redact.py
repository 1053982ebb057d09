"""Redaction: whatever hides a secret from a pattern is undone first, and what fails gives nothing away."""

import gzip
import json
import logging
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.redact import FAILED, Redactor

EMAIL = r"[\w.]+@[\w.]+\w"


@dataclass(frozen=True)
class Settings:
    patterns: tuple[str, ...] = (EMAIL,)
    callable: str | None = None


def shout(text: str) -> str:
    return text.upper()


def fail(text: str) -> str:
    raise RuntimeError(f"cannot take {text}")


def nothing(text: str) -> None:
    return None


not_callable = SimpleNamespace()
JSON = "application/json"


def clean(body: bytes | str, content_type: str = JSON, encoding: str = "", settings: Settings | None = None) -> str:
    raw = body.encode() if isinstance(body, str) else body
    return Redactor(settings or Settings()).clean(raw, content_type, encoding).decode("utf-8", "surrogateescape")


def test_matches_are_replaced_and_the_rest_stays() -> None:
    assert clean('{"to": "al@x.org", "n": 1}') == '{"to": "[redacted]", "n": 1}'
    assert clean("") == ""


def test_encoded_bodies_are_decoded_first() -> None:
    assert clean(gzip.compress(b"mail al@x.org"), "text/plain", "gzip") == "mail [redacted]"


def test_json_escapes_do_not_hide_a_match() -> None:
    assert clean('{"to": "al\\u0040x.org"}') == '{"to":"[redacted]"}'
    assert clean('{"cut": "al\\u0040x.org and b@x.org') == '{"cut": "al\\u0040x.org and [redacted]'


def test_forms_are_decoded() -> None:
    assert clean("to=al%40x.org", "application/x-www-form-urlencoded") == "to=[redacted]"


def test_a_secret_split_over_a_stream_is_found() -> None:
    stream = "".join(
        f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n" for piece in ("Ask a", "l@x", ".org")
    )
    cleaned = clean(stream, "text/event-stream")
    assert json.loads(cleaned)["choices"][0]["message"]["content"] == "Ask [redacted]"


def test_escapes_in_a_stream_of_unknown_shape_are_undone_line_by_line() -> None:
    stream = 'data: {"x": "al\\u0040x.org"}\nevent: \\\n\nb@x.org\n'
    assert clean(stream, "text/event-stream") == 'data:{"x":"[redacted]"}\nevent: \\\n\n[redacted]\n'


def test_the_declared_charset_is_honoured_and_an_unknown_one_is_utf8() -> None:
    assert clean("ä al@x.org".encode("utf-16"), "text/plain; charset=utf-16") == "ä [redacted]"
    assert clean("ä al@x.org", "text/plain; charset=martian") == "ä [redacted]"


@given(st.binary(min_size=1, max_size=50))
def test_bytes_that_are_no_text_pass_around_the_matches(noise: bytes) -> None:
    redactor = Redactor(Settings(patterns=("SECRET",)))
    cleaned = redactor.clean(b"\xfe" + noise + b" SECRET", "application/octet-stream", "")
    assert cleaned == b"\xfe" + noise + b" [redacted]"


def test_the_callable_comes_after_the_patterns() -> None:
    settings = Settings(callable=f"{__name__}:shout")
    assert clean("from al@x.org", "text/plain", settings=settings) == "FROM [REDACTED]"
    assert Redactor(settings).clean_text("/v1?q=al@x.org") == "/V1?Q=[REDACTED]"


@pytest.mark.parametrize("name", ["fail", "nothing"])
def test_a_failing_callable_gives_nothing_away(name: str, caplog: pytest.LogCaptureFixture) -> None:
    redactor = Redactor(Settings(callable=f"{__name__}:{name}"))
    with caplog.at_level(logging.ERROR):
        assert redactor.clean(b"my secret", "text/plain", "") == FAILED.encode()
        assert redactor.clean_text("my secret") == FAILED
    assert "secret" not in caplog.text


def test_a_body_that_cannot_be_decoded_does_not_pass() -> None:
    assert clean(b"raw", "text/plain", "compress") == FAILED


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(patterns=("(",)), "patterns: '\\(' is no regular expression"),
        (Settings(callable="nowhere.at.all:f"), "cannot be imported"),
        (Settings(callable=f"{__name__}:absent"), "cannot be imported"),
        (Settings(callable=f"{__name__}:not_callable"), "is no function"),
        (Settings(callable=":f"), "cannot be imported"),
    ],
)
def test_mistakes_in_the_settings_are_found_at_the_start(settings: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Redactor(settings)
