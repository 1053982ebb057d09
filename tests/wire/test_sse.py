"""Server-sent events: the standard's own examples, and any chunking giving the same events."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import ServerEvent, SseDecoder


def decode(*chunks: bytes) -> list[ServerEvent]:
    decoder = SseDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.finish()


def data(*chunks: bytes) -> list[bytes]:
    return [event.data for event in decode(*chunks)]


def test_lines_of_one_event_are_joined_by_newline() -> None:
    assert data(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [b"YHOO\n+2\n10"]


def test_comments_names_and_ids_as_in_the_standard() -> None:
    stream = b": test stream\n\ndata: first event\nid: 1\n\nevent: add\ndata:second event\nid\n\ndata:  third event\n\n"
    assert decode(stream) == [
        ServerEvent("", b"first event", "1"),
        ServerEvent("add", b"second event", ""),
        ServerEvent("", b" third event", ""),
    ]


def test_empty_data_counts_and_no_data_does_not() -> None:
    assert data(b"data\n\ndata\ndata\n\nevent: nothing\n\ndata:x\n\n") == [b"", b"\n", b"x"]
    assert decode(b"event: nothing\n\ndata:x\n\n") == [ServerEvent("", b"x")], "the name went with its event"


def test_an_id_with_a_nul_and_unknown_fields_are_ignored() -> None:
    assert decode(b"id: a\0b\nretry: 10\nfoo: bar\ndata: x\n\n") == [ServerEvent("", b"x", None)]


def test_all_three_line_ends_and_a_byte_order_mark() -> None:
    assert data(b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\r\rdata: c\n\n") == [b"a", b"b", b"c"]
    assert data(b"\xef", b"\xbb", b"\xbfdata: a\n\n") == [b"a"]
    assert data(b"", b"data: a\n\n") == [b"a"]


def test_an_error_is_an_event_even_without_data() -> None:
    assert decode(b"event: error\n\nevent: other\n\n") == [ServerEvent("error", b"")]


def test_what_is_no_field_is_counted() -> None:
    decoder = SseDecoder()
    decoder.feed(b": comment\nid\nretry: 7\nnew-field: 1\n \t\ndata: x\n\n")
    assert decoder.strange == 0
    decoder.feed(b"<html>\nError: gone\nhello\nupstream error: gone\n")
    assert decoder.strange == 4


def test_an_event_is_there_with_its_cr() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\r\r") == [ServerEvent("", b"a")]
    assert decoder.feed(b"\ndata: b\r\n\r") == [ServerEvent("", b"b")]


def test_a_cr_at_the_end_of_a_chunk_may_be_half_of_a_crlf() -> None:
    assert data(b"data: a\r", b"\ndata: b\r", b"\r", b"\n") == [b"a\nb"]


def test_the_event_open_at_the_end_is_kept() -> None:
    assert data(b"data: a\n\ndata: cut of") == [b"a", b"cut of"]
    assert data(b"data: a\r") == [b"a"]
    assert data(b"") == []
    assert data(b"\xef\xbb") == []


PIECES = st.sampled_from(
    [b"data", b":", b" ", b"x", b"\n", b"\r", b"\r\n", b"\n\n", b"event: e", b"id:", b"\0", b"\xef\xbb\xbf", b"\xc3"]
)


@given(st.lists(PIECES, max_size=30).map(b"".join), st.data())
def test_any_chunking_gives_the_same_events(stream: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    bounds = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(bounds)]
    assert decode(*chunks) == decode(stream) == decode(*(stream[i : i + 1] for i in range(len(stream))))
