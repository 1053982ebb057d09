"""Media types as they come in the wild."""

import pytest

from proxy.wire.headers import HOP_BY_HOP, charset, is_event_stream, is_json, is_ndjson, media_type


@pytest.mark.parametrize(
    ("value", "json", "ndjson", "stream"),
    [
        ("application/json", True, False, False),
        ("Application/JSON ; charset=UTF-8", True, False, False),
        ("application/problem+json", True, False, False),
        ("text/json", True, False, False),
        ("application/x-ndjson", False, True, False),
        ("application/stream+json", False, True, False),
        ("text/event-stream;charset=utf-8", False, False, True),
        ("text/plain", False, False, False),
        ("", False, False, False),
    ],
)
def test_kinds_of_body(value: str, json: bool, ndjson: bool, stream: bool) -> None:
    assert (is_json(value), is_ndjson(value), is_event_stream(value)) == (json, ndjson, stream)


def test_parts_of_a_content_type() -> None:
    assert media_type(" Text/HTML ; charset=x") == "text/html"
    assert charset('text/html; a=b; Charset="ISO-8859-1"') == "iso-8859-1"
    assert charset("text/html") is None


def test_hop_by_hop_names_are_lower_case() -> None:
    assert {name.lower() for name in HOP_BY_HOP} == HOP_BY_HOP
    assert "transfer-encoding" in HOP_BY_HOP
    assert "content-length" not in HOP_BY_HOP
