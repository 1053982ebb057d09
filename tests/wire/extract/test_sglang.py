"""SGLang's generate: streams whose every event holds all the text so far, or the new piece only."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.shapes import call, facts, sse, streamed, upto

ASK = {"text": "hi", "sampling_params": {"max_new_tokens": 9}}


def event(text: str, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"text": text, "output_ids": [1], **more,
            "meta_info": {"id": "g1", "finish_reason": finish, "prompt_tokens": 9, "completion_tokens": 2,
                          "cached_tokens": 3}}  # fmt: skip


STOP = {"type": "stop", "matched": 2}
PLAIN = event("Rain.", STOP)


@pytest.mark.parametrize(
    "texts", [("Ra", "Rain", "Rain."), ("Ra", "in", "."), ("Ra", "in", ".", ""), ("Rain.", "Rain.")]
)
def test_plain_and_streamed_say_the_same(texts: tuple[str, ...]) -> None:
    plain = call("/generate", ASK, PLAIN)
    assert (plain.kind, plain.query, plain.response, plain.finish_reason) == ("sglang", "hi", "Rain.", "stop")
    assert (plain.prompt_tokens, plain.completion_tokens, plain.cache_read_tokens) == (9, 2, 3)
    assert plain.provider_id == "g1"
    found = streamed("/generate", ASK, sse(*map(event, texts[:-1]), event(texts[-1], STOP), done=True))
    assert facts(found) == facts(plain)
    assert found.reassembled == PLAIN
    assert found.whole is True
    assert found.first_content == upto(sse(event(texts[0])))


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5))
def test_texts_so_far(pieces: list[str]) -> None:
    texts = ["".join(pieces[: n + 1]) for n in range(len(pieces))]
    found = streamed("/generate", ASK, sse(*map(event, texts), event(texts[-1], STOP)))
    assert found.response == texts[-1].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@pytest.mark.parametrize(("ask", "query"), [({"input_ids": [1, 2]}, "[1,2]"), ({"text": ["a", "b"]}, "a\nb")])
def test_what_may_be_asked(ask: dict[str, Any], query: str) -> None:
    found = call("/generate", ask | {"sampling_params": {"json_schema": "{}"}}, PLAIN)
    assert (found.kind, found.query, found.json_requested) == ("sglang", query, True)


def test_of_several_answers_the_first_is_taken() -> None:
    found = streamed("/generate", ASK, sse(event("A", index=0), event("B", index=1), event("AA", STOP, index=0)))
    assert found.response == "AA"


def test_a_stream_without_its_end_and_one_that_fails() -> None:
    quiet = streamed("/generate", ASK, sse(event("Ra")))
    assert (quiet.response, quiet.whole, quiet.failed) == ("Ra", False, False)
    for abort, words in [({"type": "abort", "message": "shut down"}, "shut down"), ({"type": "abort"}, "abort"),
                         ("abort", "abort")]:  # fmt: skip
        for found in (
            call("/generate", ASK, event("Ra", abort)),
            streamed("/generate", ASK, sse(event("Ra", abort), done=True)),
        ):
            assert found.failed
            assert found.error == words
    error = {"error": {"message": "The request queue is full."}}
    for body in (sse(error, done=True), sse(event("Ra"), error, done=True)):
        found = streamed("/generate", ASK, body)
        assert (found.failed, found.error) == (True, "The request queue is full.")


def test_something_else_on_the_same_path() -> None:
    assert call("/generate", ASK, {"text": "no numbers"}).response is None
    assert call("/generate", ASK, {"text": "x", "meta_info": {"id": "g1"}}).finish_reason is None
    ids = {"meta_info": {"id": "g1", "finish_reason": STOP}, "output_ids": [7]}
    found = streamed("/generate", ASK, sse(ids))
    assert (found.kind, found.response, found.whole, found.first_content) == ("sglang", None, True, upto(sse(ids)))
