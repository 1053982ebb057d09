"""A request asked otherwise: each API by an example, the merge patch by its RFC's table, and what must not change."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.rewrite import RequestShape, Rewrite, RewriteError, apply, kind_of, lacks, merge_patch, opened_fields

PREPEND = Rewrite.of({"system": {"prepend": "Be brief."}})
REPLACE = Rewrite.of({"system": {"replace": "Be brief."}})
EXAMPLES = Rewrite.of({"examples": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]})
HI = {"role": "user", "content": "Hi"}
SHOWN = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


@pytest.mark.parametrize(
    ("rewrite", "before", "after"),
    [
        (PREPEND, [HI], [{"role": "system", "content": "Be brief."}, HI]),
        (PREPEND, [], [{"role": "system", "content": "Be brief."}]),
        (PREPEND, [{"role": "developer", "content": "You are Bo.", "name": "d"}, HI],
         [{"role": "developer", "content": "Be brief.\n\nYou are Bo.", "name": "d"}, HI]),
        (PREPEND, [{"role": "system", "content": ""}], [{"role": "system", "content": "Be brief."}]),
        (PREPEND, [{"role": "system"}], [{"role": "system", "content": "Be brief."}]),
        (PREPEND, [{"role": "system", "content": [{"type": "text", "text": "You are Bo."}]}],
         [{"role": "system", "content": [{"type": "text", "text": "Be brief."},
                                         {"type": "text", "text": "You are Bo."}]}]),
        (REPLACE, [{"role": "developer", "content": "a"}, {"role": "system", "content": "b"}, HI],
         [{"role": "developer", "content": "Be brief."}, HI]),
        (REPLACE, [HI, {"role": "system", "content": "later"}],
         [{"role": "system", "content": "Be brief."}, HI, {"role": "system", "content": "later"}]),
        (EXAMPLES, [{"role": "system", "content": "a"}, HI], [{"role": "system", "content": "a"}, *SHOWN, HI]),
        (EXAMPLES, "no list", "no list"),
        (PREPEND, ["odd"], [{"role": "system", "content": "Be brief."}, "odd"]),
    ],
)  # fmt: skip
def test_chat(rewrite: Rewrite, before: Any, after: Any) -> None:
    body = {"model": "m", "messages": before, "user": "u"}
    assert apply(rewrite, body, RequestShape.CHAT) == {"model": "m", "messages": after, "user": "u"}


@pytest.mark.parametrize(
    ("rewrite", "before", "after"),
    [
        (PREPEND, {"input": "Hi"}, {"input": "Hi", "instructions": "Be brief."}),
        (PREPEND, {"input": "Hi", "instructions": "You are Bo."},
         {"input": "Hi", "instructions": "Be brief.\n\nYou are Bo."}),
        (REPLACE, {"input": [{"role": "developer", "content": "You are Bo."}, HI], "instructions": "x"},
         {"input": [HI], "instructions": "Be brief."}),
        (REPLACE, {"input": "Hi"}, {"input": "Hi", "instructions": "Be brief."}),
        (EXAMPLES, {"input": "Hi"}, {"input": [*SHOWN, HI]}),
        (EXAMPLES, {"input": [HI]}, {"input": [*SHOWN, HI]}),
        (EXAMPLES, {"input": "Hi", "previous_response_id": "r1"}, {"input": "Hi", "previous_response_id": "r1"}),
        (EXAMPLES, {"conversation": "c1", "input": [HI]}, {"conversation": "c1", "input": [HI]}),
        (EXAMPLES, {"prompt": {"id": "p"}}, {"prompt": {"id": "p"}}),
    ],
)  # fmt: skip
def test_responses(rewrite: Rewrite, before: Any, after: Any) -> None:
    assert apply(rewrite, before, RequestShape.RESPONSES) == after


CACHED = {"type": "text", "text": "You are Bo.", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("rewrite", "before", "after"),
    [
        (PREPEND, {}, {"system": "Be brief."}),
        (PREPEND, {"system": "You are Bo."}, {"system": "Be brief.\n\nYou are Bo."}),
        (PREPEND, {"system": [CACHED]}, {"system": [{"type": "text", "text": "Be brief."}, CACHED]}),
        (REPLACE, {"system": "You are Bo."}, {"system": "Be brief."}),
        (REPLACE, {"system": [{"type": "text", "text": "You are Bo."}]}, {"system": "Be brief."}),
        (REPLACE, {"system": [CACHED, "odd"]}, {"system": [{**CACHED, "text": "Be brief."}]}),
        (EXAMPLES, {"messages": [HI]}, {"messages": [*SHOWN, HI]}),
        (EXAMPLES, {"messages": None}, {"messages": None}),
    ],
)  # fmt: skip
def test_messages(rewrite: Rewrite, before: Any, after: Any) -> None:
    assert apply(rewrite, before, RequestShape.MESSAGES) == after


ASKED = {"role": "user", "parts": [{"text": "Hi"}]}


@pytest.mark.parametrize(
    ("rewrite", "before", "after"),
    [
        (PREPEND, {}, {"systemInstruction": {"parts": [{"text": "Be brief."}]}}),
        (PREPEND, {"system_instruction": {"role": "user", "parts": [{"text": "You are Bo."}]}},
         {"system_instruction": {"role": "user", "parts": [{"text": "Be brief."}, {"text": "You are Bo."}]}}),
        (REPLACE, {"systemInstruction": {"parts": [{"text": "You are Bo."}]}},
         {"systemInstruction": {"parts": [{"text": "Be brief."}]}}),
        (PREPEND, {"systemInstruction": {"parts": "odd"}}, {"systemInstruction": {"parts": [{"text": "Be brief."}]}}),
        (EXAMPLES, {"contents": [ASKED]},
         {"contents": [{"role": "user", "parts": [{"text": "2+2?"}]}, {"role": "model", "parts": [{"text": "4"}]},
                       ASKED]}),
        (EXAMPLES, {"contents": ASKED},
         {"contents": [{"role": "user", "parts": [{"text": "2+2?"}]}, {"role": "model", "parts": [{"text": "4"}]},
                       ASKED]}),
        (EXAMPLES, {}, {}),
    ],
)  # fmt: skip
def test_gemini(rewrite: Rewrite, before: Any, after: Any) -> None:
    assert apply(rewrite, before, RequestShape.GEMINI) == after


def test_parameters_are_changed_in_every_api_and_what_has_no_place_is_said() -> None:
    rewrite = Rewrite.of(
        {
            "system": {"replace": "Be brief."},
            "examples": SHOWN,
            "parameters": {"options": {"temperature": 0.1, "seed": None}, "tools": []},
        }
    )
    body = {"prompt": "Hi", "options": {"seed": 3, "top_k": 4}, "tools": [1]}
    assert apply(rewrite, body, RequestShape.OTHER) == {
        "prompt": "Hi",
        "options": {"top_k": 4, "temperature": 0.1},
        "tools": [],
    }
    assert [sentence.partition(" that")[0] for sentence in lacks(rewrite, RequestShape.OTHER)] == [
        "this API has no place for a system prompt",
        "this API has no place for examples",
    ]
    assert lacks(Rewrite.of({"parameters": {"n": 1}}), RequestShape.OTHER) == ()
    assert lacks(rewrite, RequestShape.CHAT) == ()


def test_it_is_written_as_it_was_read() -> None:
    for document in ({"parameters": {"n": 1}}, {"system": {"prepend": "Be brief."}}, {"examples": SHOWN}):
        assert Rewrite.of(document).as_json() == document
        assert apply(Rewrite.of(document), {}, RequestShape.OTHER) == document.get("parameters", {})
    assert opened_fields(EXAMPLES)[1] == {"previous_response_id", "conversation"}


def test_what_asks_for_no_text_stays_as_it_is() -> None:
    body = {"input": ["a", "b"]}
    assert apply(REPLACE, body, RequestShape.APART) == body
    assert lacks(REPLACE, RequestShape.APART) == ("this request asks for no text, so nothing of it is rewritten",)


@pytest.mark.parametrize(
    ("target", "body", "kind"),
    [
        ("/v1/chat/completions?x=1", {"messages": []}, RequestShape.CHAT),
        ("/api/chat/", {"messages": []}, RequestShape.CHAT),
        ("/v1/messages", {"messages": []}, RequestShape.MESSAGES),
        ("/model/x/invoke", {"messages": [], "anthropic_version": "bedrock"}, RequestShape.MESSAGES),
        ("/v1/messages/count_tokens", {"messages": []}, RequestShape.APART),
        ("/model/x/converse", {"messages": []}, RequestShape.OTHER),
        ("/v1/responses", {"input": "Hi"}, RequestShape.RESPONSES),
        ("/v1beta/models/gemini:streamGenerateContent?alt=sse", {"contents": []}, RequestShape.GEMINI),
        ("/v1beta/models/gemini:embedContent", {"content": {}}, RequestShape.APART),
        ("/v1/embeddings", {"input": "Hi"}, RequestShape.APART),
        ("/v1/completions", {"prompt": "Hi"}, RequestShape.OTHER),
    ],
)
def test_an_api_is_known_by_its_path_and_names(target: str, body: dict[str, Any], kind: RequestShape) -> None:
    assert kind_of(target, body) is kind


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_is_that_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def _nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "rewrite: [] is not an object with system, examples or parameters"),
        ({}, "rewrite: it changes nothing; give at least one of system, examples or parameters"),
        ({"temperature": 0.2}, "rewrite.temperature: there is no such member; a rewrite has system, examples or"),
        ({"system": "Be brief."}, 'rewrite.system: write {"prepend": "…"} or {"replace": "…"}, one of the two'),
        ({"system": {"append": "x"}}, "rewrite.system: write"),
        ({"system": {"replace": " "}}, "rewrite.system.replace: ' ' is not a text"),
        ({"system": {"prepend": "\ud800"}}, "rewrite.system.prepend: it has half a character (a lone surrogate) at 0"),
        ({"parameters": {"a": _nested(600)}}, "rewrite.parameters: lists and objects in it are nested more than 40"),
        (_nested(5000), "rewrite: what is nested so deep is not an object"),
        ({"parameters": {"a": [{"seed": 2**64}]}}, "rewrite.parameters.a[0].seed: 18446744073709551616 is"),
        ({"parameters": {"top_p": float("nan")}}, "rewrite.parameters.top_p: nan is not a number"),
        ({"parameters": {"top_p": float("inf")}}, "rewrite.parameters.top_p: inf is not a number"),
        ({"parameters": {"user": "\ud800"}}, "rewrite.parameters.user: it has half a character"),
        ({"parameters": {"a": {"\ud800": 1}}}, "rewrite.parameters: it has half a character"),
        ({"examples": [HI]}, "rewrite.examples: not a list of turns in pairs"),
        ({"examples": "a"}, "rewrite.examples: not a list of turns in pairs"),
        ({"examples": SHOWN[::-1]}, 'rewrite.examples[0]: not {"role": "user", "content": "…"}; turns alternate'),
        ({"examples": [HI, {"role": "assistant", "content": ""}]}, "rewrite.examples[1].content: '' is not a text"),
        ({"parameters": {}}, "rewrite.parameters: {} is not an object with the parameters to change"),
        ({"parameters": {"messages": []}}, "rewrite.parameters.messages: this is the conversation; change it with"),
        ({"parameters": {"model": "x"}}, "rewrite.parameters.model: this cannot be rewritten: name the model beside"),
        ({"parameters": {"stream": True}}, "rewrite.parameters.stream: this cannot be rewritten: whether an answer"),
        ({"parameters": {"stop": "x" * 70}, "y": 1}, "rewrite.y: there is no such member"),
        ({"parameters": ["x" * 70]}, f"rewrite.parameters: ['{'x' * 55}… is not an object"),
        ({"system": {"replace": "x" * 131_072}}, "rewrite: 131,"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(document: Any, said: str) -> None:
    with pytest.raises(RewriteError) as caught:
        Rewrite.of(document)
    assert str(caught.value).startswith(said)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
whole_numbers = st.integers(1 - 2**63, 2**63 - 1)  # greater ones are refused
values = st.recursive(st.none() | st.booleans() | whole_numbers | st.text(), lambda v: st.lists(v) | st.dictionaries(
    st.text(), v), max_leaves=4)  # fmt: skip
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
        optional={"content": values, "tool_calls": values},
    )
)
conversations = st.fixed_dictionaries(
    {}, optional={"messages": turns, "input": turns | st.text(), "contents": turns, "system": values,
                  "instructions": values, "systemInstruction": values, "temperature": values, "tools": values}
)  # fmt: skip
kinds = st.sampled_from(list(RequestShape))
OF_CONVERSATION = {"messages", "input", "contents", "system", "instructions", "systemInstruction"}


@given(texts, conversations, kinds)
def test_replacing_twice_is_replacing_once_and_nothing_else_changes(text: str, body: Any, kind: RequestShape) -> None:
    rewrite, given_ = Rewrite.of({"system": {"replace": text}}), copy.deepcopy(body)
    once = apply(rewrite, body, kind)
    assert apply(rewrite, once, kind) == once
    assert body == given_
    rest = [{name: value for name, value in side.items() if name not in OF_CONVERSATION} for side in (body, once)]
    assert rest[0] == rest[1]


@given(st.sampled_from(["prepend", "replace"]), texts, st.lists(st.tuples(texts, texts), max_size=3), values,
       conversations, kinds)  # fmt: skip
def test_it_reads_back_and_opens_no_other_field(
    how: str, text: str, pairs: Any, value: Any, body: Any, kind: RequestShape
) -> None:
    turns = [
        {"role": role, "content": said}
        for pair in pairs
        for role, said in zip(("user", "assistant"), pair, strict=True)
    ]
    document = {"system": {how: text}, "examples": turns, "parameters": {"tools": value}}
    rewrite = Rewrite.of(document)
    assert Rewrite.of(rewrite.as_json()) == rewrite
    opened = frozenset().union(*opened_fields(rewrite))
    asked = apply(rewrite, body, kind)
    for name in (body.keys() | asked.keys()) - opened - {"instructions", "system", "systemInstruction"}:
        assert asked[name] == body[name]
