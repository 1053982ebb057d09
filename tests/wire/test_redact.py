"""Redaction: whatever hides a secret from a pattern is undone first, and what fails gives nothing away."""

import gzip
import json
import logging
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.redact import FAILED, Redactor

EMAIL = r"[\w.]+@[\w.]+\w"


@dataclass(frozen=True)
class Settings:
    patterns: tuple[str, ...] = (EMAIL,)
    callable: str | None = None
    engine: Literal["re2", "python"] = "re2"


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
    assert clean('{"to": "al\\u0040x.org"}') == '{"to": "[redacted]"}'
    assert clean('{"cut": "al\\u0040x.org and b@x.org') == '{"cut": "[redacted] and [redacted]'


def test_forms_are_decoded() -> None:
    assert clean("to=al%40x.org", "application/x-www-form-urlencoded") == "to=[redacted]"


def test_a_secret_split_over_a_stream_is_found() -> None:
    stream = "".join(
        f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n" for piece in ("Ask a", "l@x", ".org")
    )
    cleaned = clean(stream, "text/event-stream")
    assert json.loads(cleaned)["choices"][0]["message"]["content"] == "Ask [redacted]"


def pieces(before: str, after: str, end: str = "\n\n") -> str:
    """An address torn over three events of any shape."""
    return "".join(f"data: {before}{json.dumps(piece)}{after}{end}" for piece in ("mail zo", "e@corp", ".example now"))


CHAT = pieces('{"choices":[{"delta":{"content":', "}}]}")


@pytest.mark.parametrize(
    ("stream", "content_type"),
    [
        (CHAT, "text/event-stream"), (CHAT, "text/plain"), (CHAT, ""), (CHAT, JSON),
        (CHAT.replace("\n\n", "\n"), "text/event-stream"), (CHAT.replace("\n", "\r\n"), "text/plain"),
        (pieces('{"say":{"it":', "}}"), "text/event-stream"), (pieces('{"token":{"text":', "}}"), "text/plain"),
        (pieces('{"parts":[{"text":', "}]}"), "text/event-stream"), (pieces("", ""), "text/event-stream"),
        ("data: mail zo\n\ndata: e@corp\n\ndata: .example now\n\n", "text/event-stream"),
        (pieces('{"choices":[{"delta":{"content":[{"type":"text","text":', "}]}}]}"), "text/event-stream"),
        (CHAT.replace("data: ", "").replace("\n\n", "\n"), "application/x-ndjson"),
    ],
)  # fmt: skip
def test_a_secret_torn_over_any_stream_is_found(stream: str, content_type: str) -> None:
    cleaned = clean(stream, content_type)
    assert "[redacted] now" in cleaned
    assert "corp" not in cleaned


def test_escapes_in_a_stream_that_cannot_be_read_are_undone_line_by_line() -> None:
    stream = 'event: \\\nid: {"x": "al\\u0040x.org"}\n\nb@x.org\n'
    assert clean(stream, "text/event-stream") == 'event: \\\nid: {"x": "[redacted]"}\n\n[redacted]\n'
    broken = '{"x": "al\\u0040x.org"\n["al\\u0040x.org"]\nb@x.org'
    assert clean(broken, "application/x-ndjson") == '["[redacted]"]'


def test_what_a_stream_said_of_itself_is_handed_out() -> None:
    redactor = Redactor(Settings())
    ended = CHAT + 'data: {"error":"gone to al@x.org"}\n\ndata: {"choi'
    body, stream = redactor.clean_answer(ended.encode(), "text/event-stream", "")
    assert json.loads(body)["error"] == "gone to [redacted]"
    assert stream is not None
    assert (stream.whole, stream.error, stream.unread) == (False, "gone to al@x.org", True)
    assert stream.first_content == CHAT.index("\n\n") + 1
    assert redactor.clean_answer(ended.encode(), "text/event-stream", "", cut=True)[1].unread is False  # type: ignore[union-attr]
    assert redactor.clean_answer(b"", "text/event-stream", "") == (b"", None)
    assert redactor.clean_answer(b"{}", JSON, "") == (b"{}", None)


def test_what_is_not_encoded_as_it_says_is_cleaned_as_it_is() -> None:
    assert "[redacted] now" in clean(CHAT, "text/event-stream", "gzip")


def test_the_declared_charset_is_honoured_and_an_unknown_one_is_utf8() -> None:
    assert clean("ä al@x.org".encode("utf-16"), "text/plain; charset=utf-16") == "ä [redacted]"
    assert clean("ä al@x.org", "text/plain; charset=martian") == "ä [redacted]"


@given(st.binary(min_size=1, max_size=50))
def test_bytes_that_are_no_text_pass_around_the_matches(noise: bytes) -> None:
    redactor = Redactor(Settings(patterns=("SECRET",)))
    cleaned = redactor.clean(b"\xfd" + noise + b" SECRET", "application/octet-stream", "")
    assert cleaned == b"\xfd" + noise + b" [redacted]"


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
