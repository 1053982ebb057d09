"""Names and conversations as clients write them: one person is one user, wherever the session stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.extract import CapturedExchange, Pointers, extract
from proxy.wire.person import (
    CONVERSATION_FIELDS,
    MORE_CONVERSATION_FIELDS,
    USER_FIELDS,
    conversation_of,
    former_keys,
    name_at,
    person_key,
    reduce_user,
    user_of,
)

HEX = "0a1b2c3d" * 8
ACCOUNT = "11111111-2222-4333-8444-555555555555"


def agent(**members: object) -> str:
    return json.dumps(members, separators=(",", ":"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann", ("ann", None)),
        (" ann ", ("ann", None)),
        ("", ("", None)),
        ("user_5", ("user_5", None)),
        ("user_5_account_7", ("user_5_account_7", None)),
        (f"user_{HEX}_account_{ACCOUNT}_session_s-1", (ACCOUNT, "s-1")),
        (f"user_{HEX}_account__session_s-1", (HEX, "s-1")),
        (f"user_{HEX}_session_s-1", (HEX, "s-1")),
        (f"user_{HEX}_account_{ACCOUNT}_session_", (ACCOUNT, None)),
        ("user_a_b_account__session_s", ("a_b", "s")),
        ("user_ _account_ _session_s", ("user_ _account_ _session_s", "s")),
        ("user_" + "x" * 600 + "_session_s", ("user_" + "x" * 600 + "_session_s", None)),
        (agent(device_id=HEX, account_uuid=ACCOUNT, session_id="s"), (ACCOUNT, "s")),
        (agent(device_id=HEX, account_uuid="", session_id="s"), (HEX, "s")),
        (agent(device_id=HEX, account_uuid=None), (HEX, None)),
        (agent(user_id="ann", session_id=7), ("ann", "7")),
        (agent(user_id=42), ("42", None)),
        (agent(installation_id="i"), ("i", None)),
        (agent(user_id=True), ('{"user_id":true}', None)),
        (agent(session_id="s"), ('{"session_id":"s"}', "s")),
        (agent(user_id=agent(user_id="ann", session_id="inner"), session_id="s"), ("ann", "s")),
        (agent(user_id=f"user_{HEX}_account__session_inner"), (HEX, "inner")),
        ("{broken", ("{broken", None)),
        ("[1]", ("[1]", None)),
        ("ann \ud83d", ("ann \ufffd", None)),
        ("\ud83d\ude00", ("😀", None)),
    ],
)
def test_who_a_name_is(text: str, expected: tuple[str, str | None]) -> None:
    assert reduce_user(text) == expected
    assert person_key(text) == expected[0].encode()


def test_both_forms_of_one_device_are_one_person() -> None:
    new = agent(device_id=HEX, account_uuid="", session_id="a")
    assert person_key(new) == person_key(f"user_{HEX}_account__session_b")
    assert person_key(new) != person_key(agent(device_id=HEX[::-1], account_uuid="", session_id="a"))


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["user_", "_account_", "_session_", "a", " ", "{", '"', "\\"]), max_size=9).map("".join)
    | st.dictionaries(
        st.sampled_from(["account_uuid", "device_id", "session_id"]),
        st.none() | st.text(max_size=5) | st.integers() | st.just(agent(user_id="x", session_id="y")),
    ).map(json.dumps)
)
def test_a_person_stays_who_they_are(text: str) -> None:
    person, _ = reduce_user(text)
    assert reduce_user(person)[0] == person
    assert reduce_user(f" {text}\n") == reduce_user(text)
    person.encode()


def test_records_of_a_whole_name_are_found_by_it() -> None:
    composite = agent(device_id="d", session_id="s")
    assert former_keys(composite) == (b"d", composite.encode())
    assert former_keys("ann") == (b"ann",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), (" a ", "a"), ("", None), (" ", None), (7, "7"), (True, None), (1.5, None), (None, None), ([], None),
     ({"a": 1}, None)],
)  # fmt: skip
def test_what_is_a_name(value: object, expected: str | None) -> None:
    assert name_at({"metadata": {"user_id": value}}, ("metadata", "user_id")) == expected
    assert name_at({"metadata": "x"}, ("metadata", "user_id")) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"conversation": "conv_1", "prompt_cache_key": "p"}, "conv_1"),
        ({"conversation": {"id": "conv_1"}}, "conv_1"),
        ({"conversation": None, "conversation_id": "", "prompt_cache_key": "p"}, "p"),
        ({"metadata": {"session_id": "s", "user_id": "u"}}, "s"),
        ({"client_metadata": {"session_id": "s"}}, "s"),
        ({"metadata": {"user_id": agent(device_id="d", session_id="s")}}, "s"),
        ({"user": f"user_{HEX}_account__session_s"}, "s"),
        ({"user": "ann"}, None),
        ({"prompt_cache_key": agent(device_id="d", session_id="s")}, "s"),
    ],
)
def test_which_conversation_a_request_names(fields: dict[str, object], expected: str | None) -> None:
    assert conversation_of(fields) == expected


def test_a_conversation_is_looked_for_where_one_says() -> None:
    fields = {"thread": "t", "conversation": "c", "who": agent(device_id="d", session_id="s")}
    assert conversation_of(fields, [("thread",)]) == "t"
    assert conversation_of(fields, [("none",)], [("who",)]) == "s"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"model": "m", "messages": []}, None),
        ({"user": ""}, None),
        ({"user": 42}, "42"),
        ({"user": "u", "safety_identifier": "s"}, "s"),
        ({"metadata": {"user_id": agent(account_uuid="ann", session_id="s")}}, "ann"),
        ({"metadata": {"trace_user_id": "t"}}, "t"),
    ],
)
def test_who_a_request_names(fields: dict[str, object], expected: str | None) -> None:
    assert user_of(fields) == expected


def test_the_log_reads_person_and_conversation_of_a_body() -> None:
    request = json.dumps({"metadata": {"user_id": agent(account_uuid="ann", session_id="s-1")}}).encode()
    found = extract(CapturedExchange(target="/v1/messages", status=200, request=request, response=b""))
    assert (found.user, found.conversation) == ("ann", "s-1")
    pointers = Pointers.parse(user=["/who"])
    for who, expected in ((agent(device_id="d"), "d"), (7, "7"), ("", None), (None, None), ([1], None)):
        request = json.dumps({"who": who}).encode()
        exchange = CapturedExchange(target="/", status=200, request=request, response=b"")
        assert extract(exchange, pointers).user == expected


_PATHS = (*CONVERSATION_FIELDS, *MORE_CONVERSATION_FIELDS, *USER_FIELDS)
_NAMES = st.none() | st.sampled_from(["", "ann", agent(device_id="d", session_id="s-1")]) | st.integers(0, 3)


@given(
    st.dictionaries(
        st.sampled_from(sorted({path[0] for path in _PATHS} | {"model"})),
        _NAMES | st.dictionaries(st.sampled_from(sorted({path[-1] for path in _PATHS})), _NAMES),
        max_size=4,
    )
)
def test_the_log_asks_for_every_name_that_a_conversation_may_have(request: dict[str, object]) -> None:
    found = extract(CapturedExchange(target="/", request=json.dumps(request).encode()))
    assert found.conversation == (conversation_of(request) or conversation_of(request, MORE_CONVERSATION_FIELDS, ()))
    names = [name for path in USER_FIELDS if (name := name_at(request, path)) is not None]
    assert found.user == (reduce_user(names[0])[0] or None if names else None)
