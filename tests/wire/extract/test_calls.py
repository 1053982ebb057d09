"""Tool calls in pieces: however a server numbers, names and cuts them, the calls are the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.extract.apis import chat
from proxy.wire.extract.calls import Calls


def delta(said: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"function": said} | more


def calls(*deltas: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    found = Calls()
    for one in deltas:
        found.add(one)
    return [(call["function"]["name"], call["function"]["arguments"]) for call in found.whole()]


ROME, OSLO = '{"city":"Rome"}', '{"topic":"Oslo"}'
BOTH = [("weather", ROME), ("news", OSLO)]


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME}, id="a")],
             [delta({"name": "news", "arguments": OSLO}, id="b")]],
            id="no index, an id each",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME}, id="a"),
              delta({"name": "news", "arguments": OSLO}, id="b")]],
            id="no index, in one list",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME}), delta({"name": "news", "arguments": OSLO})]],
            id="neither index nor id, in one list",
        ),
        pytest.param(
            [[delta({"name": "weather"})], [delta({"arguments": ROME})], [delta({"name": "news", "arguments": OSLO})]],
            id="neither index nor id",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": '{"city":'}, id="a")], [delta({"arguments": '"Rome"}'})],
             [delta({"name": "news", "arguments": ""}, id="b")], [delta({"arguments": OSLO})]],
            id="no index, in pieces: what has no id goes on with the last",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ""}, index=0, id="a")], [delta({"arguments": ROME}, index=0)],
             [delta({"name": "news", "arguments": ""}, index=0, id="b")], [delta({"arguments": OSLO}, index=0)]],
            id="index 0 for all",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME}, index=0),
              delta({"name": "news", "arguments": OSLO}, index=0)]],
            id="index 0 for all and no ids, in one list",
        ),
        pytest.param(
            [[delta({"name": "weather"}, index=0, id="")], [delta({"arguments": ROME}, index=0)],
             [delta({"name": "news"}, index=0, id="")], [delta({"arguments": OSLO}, index=0)]],
            id="index 0 for all and empty ids, in pieces",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME[:5]}, index=0, id="a")],
             [delta({"name": "weather", "arguments": ROME[5:]}, index=0, id="a")],
             [delta({"name": "news", "arguments": OSLO}, index=1, id="b")]],
            id="id and name again and again",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME[:5]}, id="a")],
             [delta({"name": "news", "arguments": OSLO[:3]}, id="b")],
             [delta({"arguments": ROME[5:]}, id="a")], [delta({"arguments": OSLO[3:]}, id="b")]],
            id="interleaved, told apart by id",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME[:5]}, index=0, id="x1")],
             [delta({"name": None, "arguments": ROME[5:]}, index=0, id="x2")],
             [delta({"name": "news", "arguments": OSLO}, index=1, id="x3")]],
            id="another id with every piece",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME}, index=0, id="a")],
             [delta({"arguments": OSLO}, index=0, id="b")],
             [delta({"name": "news"}, index=0, id="b")]],
            id="the name comes late",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": {"city": "Rome"}}, index=0)],
             [delta({"name": "news", "arguments": {}}, index=1)], [delta({"arguments": OSLO}, index=1)]],
            id="objects",
        ),
        pytest.param(
            [[delta({"name": "news", "arguments": OSLO}, index=1)],
             [delta({"name": "weather", "arguments": ROME}, index=0)]],
            id="the second first",
        ),
        pytest.param(
            [[delta({"name": "weather", "arguments": ROME[:4]}, index=0, id="a")],
             [delta({"arguments": ROME[4:]}, index=7, id="a")],
             [delta({"name": "news", "arguments": OSLO}, index=2, id="b")]],
            id="an index that counts deltas",
        ),
        pytest.param(
            [[{}], [delta({"name": "weather", "arguments": ROME}, index=0)],
             [delta({"name": "news", "arguments": OSLO}, index=1, id="")]],
            id="an empty one first",
        ),
    ],
)  # fmt: skip
def test_two_calls(deltas: list[list[dict[str, Any]]]) -> None:
    found = calls(*deltas)
    assert [call for call in found if call[0] is not None] == BOTH


def test_the_same_function_twice_without_index_and_id() -> None:
    again = [[delta({"name": "f", "arguments": '{"n":1}'})], [delta({"name": "f", "arguments": '{"n":2}'})]]
    assert calls(*again) == [("f", '{"n":1}'), ("f", '{"n":2}')]
    assert calls([delta({"name": "f", "arguments": '{"n":'})], [delta({"name": "f", "arguments": "1}"})]) == [
        ("f", '{"n":1}')
    ]


def test_arguments_that_only_the_tolerant_reader_takes_are_whole() -> None:
    given = [[delta({"name": "f", "arguments": '{"n":NaN}'})], [delta({"name": "f", "arguments": "{}"})]]
    assert calls(*given) == [("f", '{"n":NaN}'), ("f", "{}")]
    free = [[delta({"name": "f"})], [delta({"name": "f", "arguments": {"a": 1}})], [delta({"name": "f"})]]
    assert calls(*free) == [("f", '{"a":1}'), ("f", "")]


def test_custom_tools_keep_their_form() -> None:
    found = Calls()
    found.add([{"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": ""}}])
    found.add([{"index": 0, "custom": {"input": "select "}}])
    found.add([{"index": 0, "custom": {"input": "1"}}, {"index": 1, "id": "b", "type": "custom"}])
    found.add([{"index": 1, "custom": {"name": "sh", "input": "ls"}}])
    assert found.whole() == [
        {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
        {"id": "b", "type": "custom", "custom": {"name": "sh", "input": "ls"}},
    ]


NAMES = st.sampled_from(["weather", "news", "sum"])
ARGUMENTS = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=8), max_size=3).map(json.dumps)
STYLES = ("book", "no index", "index 0", "repeated", "objects", "nulls", "names only", "interleaved")


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[str, Any]], list[dict[str, Any]]]:
    """Calls, and the deltas of a server that sends them in its own way."""
    style = draw(st.sampled_from(STYLES))
    wanted = draw(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=4))
    parts: list[list[dict[str, Any]]] = []
    for number, (name, arguments) in enumerate(wanted):
        cuts = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=3)))
        pieces = [arguments[a:b] for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
        if style == "objects":
            pieces = [json.loads(arguments)]
        mine = []
        for position, piece in enumerate(pieces):
            said: dict[str, Any] = {"arguments": piece}
            part: dict[str, Any] = {"function": said}
            if style not in ("no index", "names only"):
                part["index"] = 0 if style == "index 0" else number
            if position == 0 or style == "repeated":
                said["name"] = name
                part |= {} if style == "names only" else {"id": f"call_{number}", "type": "function"}
            elif style == "nulls":
                said["name"] = part["id"] = part["type"] = None
            mine.append(part)
        parts.append(mine)
    if style == "interleaved":
        order = draw(st.permutations([number for number, mine in enumerate(parts) for _ in mine]))
        queues = [iter(mine) for mine in parts]
        flat = [next(queues[number]) for number in order]
    else:
        flat = [part for mine in parts for part in mine]
    deltas = []
    while flat:
        taken = 1 if style == "names only" else draw(st.integers(1, 2))
        deltas.append({"tool_calls": flat[:taken], "content": None, "function_call": None})
        flat = flat[taken:]
    return [(name, json.loads(arguments)) for name, arguments in wanted], deltas


@given(streams())
def test_any_style_and_any_split_gives_the_same_calls(case: tuple[list[tuple[str, Any]], list[dict[str, Any]]]) -> None:
    wanted, deltas = case
    message = chat.merge_chunks([{"choices": [{"index": 0, "delta": one}]} for one in deltas])["choices"][0]["message"]
    found = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message["tool_calls"]]
    assert found == wanted
    assert "function_call" not in message


def test_one_tool_called_twice_at_one_index_without_ids_is_two_calls() -> None:
    first = delta({"name": "news", "arguments": OSLO}, index=0)
    second = delta({"name": "news", "arguments": ROME}, index=0)
    assert calls([first], [second]) == [("news", OSLO), ("news", ROME)]
    closing = delta({"name": "news", "arguments": ""}, index=0)
    assert calls([first], [closing]) == [("news", OSLO)], "the name is repeated, and nothing else"
