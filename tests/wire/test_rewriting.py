"""Bodies rewritten as bytes: as the rule says of parsed ones, and byte for byte where nothing is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.rewrite import Rewrite, RewriteError, apply, kind_of
from proxy.wire.rewritable import LONGEST_BODY, rewritable
from proxy.wire.rewriting import Rewriter

CHAT = "/v1/chat/completions"
FULL = {
    "system": {"prepend": "Be brief."},
    "examples": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}],
    "parameters": {"temperature": 0.1, "top_p": None, "options": {"a": 1}},
}


def test_what_is_not_touched_keeps_its_bytes() -> None:
    body = (
        b'{ "seed" : 123456789012345678901234567890, "temperature":1.0,\n'
        b' "messages":[{"role":"developer","content":"Be \\u00e9"},'
        b' {"role":"user", "content" : "\\ud83d\\ude00 1e400"}, "odd"],'
        b'"x":[1.0, -0, 1E5, {"a":"\\/"}] ,"top_p":0.50}'
    )
    assert (
        Rewriter(FULL).body(CHAT, body)
        == (
            '{"seed":123456789012345678901234567890,"temperature":0.1,'
            '"messages":[{"role":"developer","content":"Be brief.\\n\\nBe é"},'
            '{"role":"user","content":"2+2?"},{"role":"assistant","content":"4"},'
            '{"role":"user","content":"\\ud83d\\ude00 1e400"},"odd"],"x":[1.0, -0, 1E5, {"a":"\\/"}],"options":{"a":1}}'
        ).encode()
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'"text"',
        b'{"messages":[',
        b'{"messages":[{"role":"\\ud800"}]}',
        b'{"messages":[{"role":"system","content":"\xff"}]}',
        b'{"a":NaN}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages":[[1]]}',
    ],
)
def test_what_is_no_request_goes_on_as_it_is(body: bytes) -> None:
    """Its server says what is wrong with it, as it would have without us."""
    assert Rewriter(FULL).body(CHAT, body) == body


def test_an_api_is_known_by_path_and_body() -> None:
    rewriter = Rewriter({"system": {"replace": "Be brief."}})
    assert rewriter.lacks(CHAT, b'{"messages":[]}') == ()
    assert rewriter.lacks(CHAT, b"[") == ("the body is no JSON object, so nothing of it is rewritten",)
    assert "no place for a system prompt" in rewriter.lacks("/v1/completions", b'{"prompt":"Hi"}')[0]
    embeddings = b'{ "input":"Hi" }'
    assert rewriter.body("/v1/embeddings", embeddings) == embeddings
    assert json.loads(rewriter.body("/v1/responses", b'{"input": "Hi"}')) == {
        "input": "Hi",
        "instructions": "Be brief.",
    }


def test_a_rewrite_that_is_wrong_is_refused_at_once() -> None:
    with pytest.raises(RewriteError, match=r"rewrite\.sytem: there is no such member"):
        Rewriter({"sytem": {}})


@pytest.mark.parametrize(
    ("size", "encoding", "body", "can"),
    [
        (10, None, b"{}", True),
        (10, "identity", b"{}", True),
        (10, "gzip", b"", False),
        (LONGEST_BODY, None, b"", True),
        (LONGEST_BODY + 1, None, b"", False),
        (40_000, None, b"x" * 40_000, True),
        (40_000, None, b"[" * 10_000 + b"{" * 6_000 + b" " * 24_000, True),
        (40_000, None, b"[" * 10_000 + b"{" * 6_001 + b" " * 23_999, False),
    ],
)
def test_what_would_take_long_is_not_rewritten(size: int, encoding: str | None, body: bytes, can: bool) -> None:
    assert rewritable(size, encoding, body) is can


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=4,
)
turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"])}, optional={"content": values}),
    max_size=4,
)
bodies = st.fixed_dictionaries(
    {},
    optional={"messages": turns, "input": turns | st.just("Hi"), "contents": turns, "system": values, "options": values,
              "instructions": values, "temperature": values, "x": values, "top_p": values},
)  # fmt: skip
targets = st.sampled_from([CHAT, "/v1/responses", "/v1/messages", "/m:generateContent", "/v1/completions", "/files"])


@given(bodies, targets)
def test_it_agrees_with_the_rule_for_parsed_documents(document: dict[str, Any], target: str) -> None:
    expected = apply(Rewrite.of(FULL), document, kind_of(target, document))
    assert json.loads(Rewriter(FULL).body(target, json.dumps(document).encode())) == expected
