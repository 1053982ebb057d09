"""Formats: the same conversations in each of them, written out, and what becomes of what a format cannot hold."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.conversation import Attachment, Conversation, Lack, ToolCall, Turn
from policies.formats import (
    FORMATS,
    Format,
    FormatType,
    Holds,
    MemoryPartners,
    Partners,
    Style,
    TrainingLine,
    conforms,
    has_parts,
    in_parts,
    lines,
    prepare,
    shape,
)
from policies.records import Author, Sample

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
PROMPT_FORMS = ("prompt_completion", "dpo", "kto")


def lines_of(item: Sample, style: Style, partners: Partners) -> list[TrainingLine]:
    """What a build writes of the sample; nothing where the format cannot hold it."""
    material = prepare(item, style)
    return [] if isinstance(material, Lack) else lines(material, partners)


def refusal(item: Sample, style: Style) -> Lack | None:
    """Why the format cannot hold it."""
    material = prepare(item, style)
    return material if isinstance(material, Lack) else None


def system(text: str) -> Turn:
    return Turn(role="system", content=text)


def user(text: str, *attached: Attachment) -> Turn:
    return Turn(role="user", content=(text, *attached) if attached else text)


def model(text: str = "", *calls: ToolCall, taught: bool = True, reasoning: str | None = None) -> Turn:
    return Turn(role="assistant", content=text, calls=calls, taught=taught, reasoning=reasoning)


def call(arguments: str = '{"city": "Rome"}', *, id: str | None = "c1", custom: bool = False) -> ToolCall:
    return ToolCall(name="weather", arguments=arguments, id=id, custom=custom)


def result(text: str, call_id: str | None = "c1") -> Turn:
    return Turn(role="tool", content=text, call_id=call_id)


def sample(*turns: Turn, tools: tuple[dict[str, Any], ...] = (), **change: Any) -> Sample:
    """The last turn is the answer."""
    said = Conversation(turns=turns[:-1], answer=turns[-1], tools=tools)
    fields: dict[str, Any] = {"user": 1, "query": "", "response": turns[-1].text, "generation": 1}
    return Sample(record_id="r1", created_at=0.0, conversation=said, **(fields | change))


def written(item: Sample, format_type: FormatType, **style: Any) -> list[TrainingLine]:
    return lines_of(item, Style(format_type=format_type, **style), MemoryPartners())


def body(item: Sample, format_type: FormatType, **style: Any) -> Any:
    (line,) = written(item, format_type, **style)
    return line.body


def misfit(item: Sample, format_type: FormatType) -> str | None:
    reason = refusal(item, Style(format_type=format_type))
    return None if reason is None else reason.value


SHORT = sample(user("What is a SNES?"), model("A console."))
LONG = sample(
    system("Be brief."), user("What is a SNES?"), model("A console."), user("And its CPU?"), model("A 65816.")
)
AGENT = sample(
    user("Weather in Rome?"), model("", call()), result("21"), model("21 degrees."), tools=(WEATHER,)
)  # fmt: skip
ASKS = sample(user("Weather in Rome?"), model("Let me look.", call(), call('{"city": "Oslo"}', id="c2")))
SEEN = sample(user("Which car?", Attachment(medium="image", part=PICTURE)), model("A red one."))
DISLIKED = sample(
    user("What is a SNES?"), model("A fish.", taught=False), user("No!"), model("A console.")
)  # fmt: skip


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def called(arguments: Any, id: str = "c1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


# The list


def test_there_is_one_list_of_formats() -> None:
    assert tuple(FORMATS) == get_args(FormatType)
    assert all(name == form.name for name, form in FORMATS.items())
    assert [name for name, form in FORMATS.items() if form.needs_votes] == ["dpo", "kto"]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_the_reference_says_what_each_format_is(form: Format) -> None:
    held = ", ".join(item.value for item in Holds if item in form.holds) or "words"
    page = (Path(__file__).parents[2] / "docs/reference/records.md").read_text()
    assert f"| `{form.name}` | `{form.line}` | {form.meaning} | {held} |" in page


# chatml


@pytest.mark.parametrize(
    ("item", "style", "line"),
    [
        (SHORT, {}, {"messages": [said("user", "What is a SNES?"), said("assistant", "A console.")]}),
        (
            LONG,
            {},
            {
                "messages": [
                    said("system", "Be brief."),
                    said("user", "What is a SNES?"),
                    said("assistant", "A console.", weight=0),
                    said("user", "And its CPU?"),
                    said("assistant", "A 65816."),
                ]
            },
        ),
        (
            AGENT,
            {},
            {
                "messages": [
                    said("user", "Weather in Rome?"),
                    said("assistant", "", tool_calls=[called('{"city": "Rome"}')], weight=0),
                    said("tool", "21", tool_call_id="c1"),
                    said("assistant", "21 degrees."),
                ],
                "tools": [WEATHER],
            },
        ),
        (
            ASKS,
            {},
            {
                "messages": [
                    said("user", "Weather in Rome?"),
                    said(
                        "assistant",
                        "Let me look.",
                        tool_calls=[called('{"city": "Rome"}'), called('{"city": "Oslo"}', "c2")],
                    ),
                ]
            },
        ),
        (
            SEEN,
            {},
            {
                "messages": [
                    said("user", [{"type": "text", "text": "Which car?"}, PICTURE]),
                    said("assistant", "A red one."),
                ]
            },
        ),
        (
            DISLIKED,
            {"train_on": "all"},
            {
                "messages": [
                    said("user", "What is a SNES?"),
                    said("assistant", "A fish.", weight=0),
                    said("user", "No!"),
                    said("assistant", "A console."),
                ]
            },
        ),
    ],
    ids=["short", "earlier turns are not learnt", "a tool", "words and two calls", "a picture", "a disliked turn"],
)
def test_chatml(item: Sample, style: dict[str, Any], line: Any) -> None:
    assert body(item, "chatml", **style) == line


def test_all_turns_are_learnt_if_wished() -> None:
    assert not any("weight" in message for message in body(LONG, "chatml", train_on="all")["messages"])


def test_the_name_that_a_client_gives_a_person_is_kept() -> None:
    named = sample(Turn(role="user", content="Hi", name="Ann"), model("Hello"))
    assert body(named, "chatml")["messages"][0] == said("user", "Hi", name="Ann")


def test_several_texts_are_one() -> None:
    item = sample(Turn(role="user", content=("One.", "Two.")), model("Ok"))
    assert body(item, "chatml")["messages"][0] == said("user", "One.\nTwo.")


# TRL's own


def test_prompt_completion() -> None:
    assert body(AGENT, "prompt_completion") == {
        "prompt": [
            said("user", "Weather in Rome?"),
            said("assistant", "", tool_calls=[called({"city": "Rome"})]),
            said("tool", "21", tool_call_id="c1", name="weather"),
        ],
        "completion": [said("assistant", "21 degrees.")],
        "tools": [WEATHER],
    }
    assert body(ASKS, "prompt_completion")["completion"][0]["tool_calls"] == [
        called({"city": "Rome"}),
        called({"city": "Oslo"}, "c2"),
    ]


@pytest.mark.parametrize(
    ("turns", "left"),
    [
        pytest.param("u a- u", "u+u", id="neighbours are joined"),
        pytest.param("s u a- u", "s u+u", id="after a system prompt"),
        pytest.param("u a u a- u", "u a u+u", id="liked ones stay"),
        pytest.param("u c- t a u", "u a u", id="a call goes with its result"),
        pytest.param("u c t a- u", "u+u", id="an answer takes the calls that led to it along"),
        pytest.param("u c t c- t a u", "u c t a u", id="one of two calls"),
        pytest.param("u c t c- t t a- u", "u+u", id="the whole of a chain that ends badly"),
        pytest.param("u a u c- t", "u a u c t", id="what the answer rests on stays"),
        pytest.param("u a- u a- u", "u+u+u", id="two of them"),
    ],
)
def test_disliked_turns_are_left_out_of_prompts(turns: str, left: str) -> None:
    made: list[Turn] = []
    for at, word in enumerate(turns.split()):
        taught, letter = not word.endswith("-"), word[0]
        match letter:
            case "s":
                made.append(system("S"))
            case "u":
                made.append(user(f"U{at}"))
            case "a":
                made.append(model(f"A{at}", taught=taught))
            case "c":
                follow = turns.split()[at + 1 :]
                several = next((n for n, other in enumerate(follow) if other != "t"), len(follow))
                calls = tuple(call(id=f"c{at}{n}") for n in range(several))
                made.append(model(f"C{at}", *calls, taught=taught))
            case _:
                made.append(result(f"T{at}", call_id=None))
    shapes = {"system": "s", "user": "u", "tool": "t"}
    for format_type in ("prompt_completion", "kto"):
        prompt = body(sample(*made, model("End."), feedback=1.0), format_type)["prompt"]
        found = []
        for message in prompt:
            letter = shapes.get(message["role"], "c" if "tool_calls" in message else "a")
            found.append("+".join([letter] * (message["content"].count("\n\n") + 1)))
        assert " ".join(found) == left


def test_a_joined_question_keeps_its_picture_and_no_wrong_name() -> None:
    first = replace(user("Look", Attachment(medium="image", part=PICTURE)), name="Ann")
    last = replace(user("Well?"), name="Bob")
    prompt = body(sample(first, model("No.", taught=False), last, model("Red.")), "prompt_completion")["prompt"]
    texts = [{"type": "text", "text": "Look"}, PICTURE, {"type": "text", "text": "Well?"}]
    assert prompt == [said("user", texts)]
    prompt = body(sample(last, model("No.", taught=False), first, model("Red.")), "prompt_completion")["prompt"]
    assert prompt == [said("user", [texts[2], texts[0], PICTURE])]


# alpaca, completion


def test_alpaca() -> None:
    assert body(SHORT, "alpaca") == {"instruction": "What is a SNES?", "input": "", "output": "A console."}
    assert body(LONG, "alpaca") == {
        "instruction": "And its CPU?",
        "input": "",
        "output": "A 65816.",
        "system": "Be brief.",
        "history": [["What is a SNES?", "A console."]],
    }
    assert body(DISLIKED, "alpaca")["instruction"] == "What is a SNES?\n\nNo!"


@pytest.mark.parametrize(
    "turns",
    [
        (user("One."), user("Two.")),
        (model("Hello!"), user("Hi")),
        (user("Hi"), system("Be brief."), user("Well?")),
        (system("Be brief."),),
    ],
    ids=["two questions", "begins with the model", "a system prompt in between", "no question"],
)
def test_alpaca_holds_only_what_alternates(turns: tuple[Turn, ...]) -> None:
    assert misfit(sample(*turns, model("Ok")), "alpaca") == "not_in_format"
    assert misfit(sample(*turns, model("Ok")), "chatml") is None


def test_completion() -> None:
    assert body(SHORT, "completion", system_prompt="S") == {"prompt": "What is a SNES?", "completion": "A console."}
    assert body(LONG, "completion") == {
        "prompt": (
            "system: Be brief.\n\nuser: What is a SNES?\n\nassistant: A console.\n\nuser: And its CPU?\n\nassistant:"
        ),
        "completion": "A 65816.",
    }


# Every format


def test_the_system_prompt_goes_before_conversations_that_have_none() -> None:
    assert body(SHORT, "chatml", system_prompt="S")["messages"][0] == said("system", "S")
    assert body(SHORT, "prompt_completion", system_prompt="S")["prompt"][0] == said("system", "S")
    assert body(SHORT, "alpaca", system_prompt="S")["system"] == "S"
    assert body(LONG, "chatml", system_prompt="S") == body(LONG, "chatml")


def test_a_sample_without_a_conversation_is_its_question_and_answer() -> None:
    bare = replace(SHORT, conversation=None, query="What is a SNES?")
    assert body(bare, "chatml") == body(SHORT, "chatml")


@pytest.mark.parametrize("format_type", ["chatml", "prompt_completion", "alpaca", "completion"])
def test_a_correction_replaces_the_answer_and_is_nobodys_but_a_persons(format_type: FormatType) -> None:
    thought = sample(user("SNES?"), model("A fish.", reasoning="It swims."), correction="A 16-bit console.")
    (line,) = written(thought, format_type, keep_reasoning=True)
    assert "A 16-bit console." in str(line.body)
    assert "fish" not in str(line.body)
    assert "swims" not in str(line.body), "a person does not think aloud"
    assert (line.author, line.generation) == (Author.PERSON, 0)
    (line,) = written(replace(SHORT, correction=None), format_type)
    assert (line.author, line.generation) == (Author.OWN, 1)


HELD = pytest.mark.parametrize(
    ("item", "wanted", "reason"),
    [
        pytest.param(AGENT, Holds.TOOLS, "not_in_format", id="a conversation with a tool"),
        pytest.param(ASKS, Holds.TOOLS, "not_in_format", id="an answer that calls"),
        pytest.param(sample(user("Hi"), model("Hello"), tools=(WEATHER,)), Holds.TOOLS, "not_in_format", id="an offer"),
        pytest.param(SEEN, Holds.ATTACHMENTS, "multimodal", id="a picture"),
    ],
)


@HELD
@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_what_a_format_can_not_hold_is_refused(item: Sample, wanted: Holds, reason: str, form: Format) -> None:
    assert misfit(replace(item, feedback=1.0), form.name) == (None if wanted in form.holds else reason)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(sample(user("?", Attachment(medium="audio")), model("A")), "multimodal", id="data elsewhere"),
        pytest.param(sample(user("?"), model("", call("{broken"))), "not_in_format", id="broken arguments"),
        pytest.param(sample(user("?"), model("", call("[1]"))), "not_in_format", id="a list of arguments"),
        pytest.param(sample(user("?"), model("", call('{"x": NaN}'))), "not_in_format", id="NaN"),
        pytest.param(sample(user("?"), model("", call("[" * 100_000))), "not_in_format", id="deep arguments"),
        pytest.param(sample(user("?"), model("", call(custom=True))), "not_in_format", id="a custom tool"),
        pytest.param(sample(user("?"), result("21"), model("A")), "not_in_format", id="a result without a call"),
        pytest.param(sample(user("?"), model("", call()), model("A")), "not_in_format", id="a call without a result"),
        pytest.param(
            sample(user("?"), model("", call()), user("!"), result("1"), model("A")),
            "not_in_format",
            id="a late result",
        ),
        pytest.param(
            sample(user("?"), model("", call()), result("1", "c9"), model("A")), "not_in_format", id="of another call"
        ),
    ],
)
def test_what_nobody_could_read_is_refused(item: Sample, reason: str, form: Format) -> None:
    assert refusal(item, Style(format_type=form.name)) == reason
    assert lines_of(item, Style(format_type=form.name), MemoryPartners()) == []


def test_a_broken_answer_that_was_corrected_is_taught_by_its_correction() -> None:
    broken = sample(user("?"), model("", call("{broken")), correction="Yes.")
    assert body(broken, "chatml")["messages"][-1] == said("assistant", "Yes.")
    assert misfit(broken, "kto") == "not_in_format", "it would be a line of its own there"


def test_only_functions_are_offered() -> None:
    item = sample(user("Hi"), model("Hello"), tools=({"type": "web_search"}, WEATHER))
    assert body(item, "chatml")["tools"] == [WEATHER]
    assert "tools" not in body(sample(user("Hi"), model("Hello"), tools=({"type": "web_search"},)), "chatml")


# Calls


def test_calls_without_ids_are_numbered_and_results_find_them() -> None:
    bare = call(id=None)
    other = ToolCall(name="clock", arguments="", id=None)
    named = Turn(role="tool", content="noon", name="clock")
    item = sample(
        user("?"), model("", bare, other), named, result("21", None), model("", bare), result("22", None), model("A")
    )
    messages = body(item, "chatml")["messages"]
    assert [made["id"] for message in messages for made in message.get("tool_calls", ())] == [
        "call00000",
        "call00001",
        "call00002",
    ]
    assert [(m["content"], m["tool_call_id"]) for m in messages if m["role"] == "tool"] == [
        ("noon", "call00001"),
        ("21", "call00000"),
        ("22", "call00002"),
    ]
    assert messages[1]["tool_calls"][1]["function"] == {"name": "clock", "arguments": "{}"}


# Reasoning

THOUGHT = sample(
    user("17 * 23?"), model("391", reasoning="340 + 51"), user("+ 1?"), model("392", reasoning="391 + 1")
)  # fmt: skip


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_reasoning_is_kept_only_if_wished(form: Format) -> None:
    item = replace(THOUGHT, feedback=1.0, correction="392." if form.name == "dpo" else None)
    (line,) = written(item, form.name)
    assert line.reasoning
    assert "340" not in str(line.body)
    (line,) = written(item, form.name, keep_reasoning=True)
    assert line.reasoning
    if Holds.REASONING in form.holds:
        assert "'reasoning_content': '340 + 51'" in str(line.body)
        assert "'reasoning_content': '391 + 1'" in str(line.body)
    else:
        assert "340" not in str(line.body)
    assert not any(made.reasoning for made in written(replace(SHORT, feedback=1.0), form.name))


# Votes


def test_kto_labels_the_vote() -> None:
    assert body(replace(SHORT, feedback=1.0), "kto") == {
        "prompt": [said("user", "What is a SNES?")],
        "completion": [said("assistant", "A console.")],
        "label": True,
    }
    assert body(replace(SHORT, feedback=-0.2), "kto")["label"] is False
    assert body(SHORT, "kto")["label"] is False
    assert body(AGENT, "kto")["tools"] == [WEATHER]


def test_kto_makes_two_lines_of_a_correction() -> None:
    good, bad = written(replace(SHORT, correction="A 16-bit console."), "kto")
    assert (good.body["completion"][0]["content"], good.body["label"]) == ("A 16-bit console.", True)
    assert (bad.body["completion"][0]["content"], bad.body["label"]) == ("A console.", False)
    assert (good.author, good.generation, bad.author, bad.generation) == (Author.PERSON, 0, Author.OWN, 1)
    assert len(written(sample(user("Hi"), model(" "), correction="Hello"), "kto")) == 1


def test_dpo_prefers_the_correction() -> None:
    (line,) = written(replace(ASKS, correction="Where?"), "dpo")
    assert line.body["chosen"] == [said("assistant", "Where?")]
    assert line.body["rejected"][0]["tool_calls"][0] == called({"city": "Rome"})
    assert line.author is Author.PERSON
    assert written(sample(user("Hi"), model(" "), correction="Hello"), "dpo") == []


def test_dpo_pairs_opposite_votes_on_the_same_conversation_once() -> None:
    partners, style = MemoryPartners(), Style(format_type="dpo", keep_reasoning=True)
    liked = replace(THOUGHT, feedback=1.0)
    bad = sample(user("17 * 23?"), model("391"), user(" + 1?\n"), model("", call()), feedback=-1.0, generation=0)
    assert lines_of(liked, style, partners) == []
    (pair,) = lines_of(bad, style, partners)
    assert pair.body["chosen"] == [said("assistant", "392", reasoning_content="391 + 1")]
    assert pair.body["rejected"][0]["tool_calls"] == [called({"city": "Rome"})]
    assert (pair.author, pair.reasoning) == (Author.OWN, True), "by the model that wrote the good answer"
    assert pair.partner is not None
    assert pair.partner.record_id == "r1"
    assert lines_of(bad, style, partners) == [], "the good answer was used up"
    (second,) = lines_of(liked, style, partners)
    assert second.body["rejected"] == pair.body["rejected"]
    assert second.author is Author.OWN


@pytest.mark.parametrize(
    "other",
    [
        LONG,
        replace(SHORT, conversation=replace(SHORT.said, tools=(WEATHER,))),
        sample(user("What is a SNES?", Attachment(medium="image", part=PICTURE)), model("A console.")),
        sample(user("What is a SNES?"), model("", call()), result("1"), model("A console.")),
    ],
    ids=["earlier turns", "tools", "a picture", "a call"],
)
def test_dpo_does_not_pair_different_conversations(other: Sample) -> None:
    partners, style = MemoryPartners(), Style(format_type="dpo")
    assert lines_of(replace(SHORT, feedback=1.0), style, partners) == []
    assert lines_of(replace(other, feedback=-1.0), style, partners) == []


def test_ids_of_calls_do_not_part_the_same_conversation() -> None:
    partners, style = MemoryPartners(), Style(format_type="dpo")
    again = sample(
        user("Weather in Rome?"), model("", call('{ "city":"Rome" }', id="x")), result("21", "x"), model("Hot."),
        tools=(WEATHER,), feedback=-1.0,
    )  # fmt: skip
    assert lines_of(replace(AGENT, feedback=1.0), style, partners) == []
    assert len(lines_of(again, style, partners)) == 1


# Files


@pytest.mark.parametrize(
    ("line", "format_type", "good"),
    [
        ({"messages": []}, "chatml", True),
        ({"messages": "hi"}, "chatml", False),
        ({"prompt": [], "completion": []}, "prompt_completion", True),
        ({"prompt": "a", "completion": "b"}, "prompt_completion", False),
        ({"prompt": "a", "completion": "b"}, "completion", True),
        ({"prompt": "a"}, "completion", False),
        ({"prompt": "a", "completion": "b", "label": True}, "kto", True),
        ({"prompt": "a", "completion": "b", "label": 1}, "kto", False),
        ({"prompt": [], "chosen": [], "rejected": "x"}, "dpo", True),
        ({"instruction": "a", "output": "b"}, "alpaca", True),
    ],
)
def test_rehearsal_lines_are_checked_against_the_format(line: Any, format_type: FormatType, good: bool) -> None:
    assert conforms(line, format_type) is good


def test_a_file_with_a_picture_has_parts_in_every_content() -> None:
    (seen,) = written(SEEN, "chatml")
    (short,) = written(SHORT, "chatml")
    assert (seen.parts, short.parts) == (True, False)
    assert (has_parts(seen.body), has_parts(short.body), has_parts({"messages": ["odd"]})) == (True, False, False)
    assert in_parts(short.body) == {
        "messages": [
            said("user", [{"type": "text", "text": "What is a SNES?"}]),
            said("assistant", [{"type": "text", "text": "A console."}]),
        ]
    }
    assert in_parts(in_parts(seen.body)) == in_parts(seen.body)
    assert in_parts({"prompt": "a", "messages": ["odd"]}) == {"prompt": "a", "messages": ["odd"]}


def test_lines_have_a_shape_by_their_keys() -> None:
    of = {
        name: shape(body(item, "chatml"))
        for name, item in {"short": SHORT, "long": LONG, "agent": AGENT, "asks": ASKS, "seen": SEEN}.items()
    }
    assert len(set(of.values())) == len(of)
    assert of["short"] == shape(body(sample(user("Other?"), model("Words.")), "chatml"))
    schema = {"type": "object", "properties": {"zone": {"type": "string"}}}
    clock = {"type": "function", "function": {"name": "clock", "parameters": schema}}
    other = replace(AGENT, conversation=replace(AGENT.said, tools=(clock,)))
    assert shape(body(other, "chatml")) != of["agent"], "another tool has other keys"
    assert shape(body(LONG, "alpaca")) != shape(body(SHORT, "alpaca"))


# Properties

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
TAUGHT = st.booleans()


@st.composite
def conversations(draw: st.DrawFn) -> Sample:
    """User and model in turn, some answers after calls of tools, some of them disliked."""
    turns = [system(draw(WORDS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3))):
        turns.append(user(draw(WORDS)))
        for _ in range(draw(st.integers(0, 2))):
            given = json.dumps({"city": draw(WORDS)})
            turns.append(model(draw(WORDS), call(given, id=None), taught=draw(TAUGHT)))
            turns.append(result(draw(WORDS), None))
        turns.append(model(draw(WORDS), taught=draw(TAUGHT)))
    turns.append(user(draw(WORDS)))
    return sample(*turns, model(draw(WORDS)), feedback=draw(st.sampled_from([-1.0, 1.0])))


STYLES = st.builds(
    Style,
    format_type=st.sampled_from(list(FORMATS)),
    system_prompt=st.none() | WORDS,
    train_on=st.sampled_from(["last", "all"]),
    keep_reasoning=st.booleans(),
)


@given(item=conversations(), style=STYLES)
def test_what_is_written_conforms_and_is_the_same_each_time(item: Sample, style: Style) -> None:
    first = [json.dumps(line.body) for line in lines_of(item, style, MemoryPartners())]
    assert first == [json.dumps(line.body) for line in lines_of(item, style, MemoryPartners())]
    assert all(conforms(json.loads(text), style.format_type) for text in first)
    assert not any("<tool_call>" in text for text in first)
    if refusal(item, style) is None and style.format_type != "dpo":
        assert first


@given(item=conversations(), train_on=st.sampled_from(["last", "all"]))
def test_chatml_holds_every_word_and_teaches_none_that_was_disliked(item: Sample, train_on: Any) -> None:
    messages = body(item, "chatml", train_on=train_on)["messages"]
    turns = [*item.said.turns, item.said.answer]
    assert [message["content"] for message in messages] == [turn.text for turn in turns]
    for message, turn in zip(messages[:-1], turns[:-1], strict=True):
        unlearnt = turn.role == "assistant" and (train_on == "last" or not turn.taught)
        assert message.get("weight", 1) == (0 if unlearnt else 1)
    assert "weight" not in messages[-1]


@given(item=conversations(), format_type=st.sampled_from(["prompt_completion", "kto"]))
def test_prompts_go_on_alternating(item: Sample, format_type: FormatType) -> None:
    prompt = body(item, format_type)["prompt"]
    roles = [message["role"] for message in prompt if message["role"] not in ("system", "tool")]
    assert not any(one == other == "user" for one, other in pairwise(roles))
    assert prompt[-1]["role"] == "user"
    for before, after in pairwise(prompt):
        assert (after["role"] == "tool") is ("tool_calls" in before), "each call is followed by its result"
        assert not (before["role"] == "tool" and after["role"] == "user")
    unlearnt = [turn.text for turn in item.said.turns if not turn.taught]
    kept = [message["content"] for message in prompt if message["role"] == "assistant"]
    others = [turn.text for turn in item.said.turns if turn.taught]
    assert not set(kept) & (set(unlearnt) - set(others))


def test_nothing_is_preferred_to_itself() -> None:
    confirmed = replace(SHORT, correction=" A\nconsole. ")
    assert written(confirmed, "dpo") == []
    (line,) = written(confirmed, "kto")
    assert line.body["label"] is True
    partners, style = MemoryPartners(), Style(format_type="dpo")
    for feedback in (1.0, -1.0):
        assert lines_of(replace(ASKS, feedback=feedback), style, partners) == []
    other = sample(*ASKS.said.turns, model("It is hot."), feedback=-1.0)
    (pair,) = lines_of(other, style, partners)
    assert (pair.body["chosen"][0]["content"], pair.body["rejected"][0]["content"]) == ("Let me look.", "It is hot.")


@pytest.mark.parametrize("said", [["x"], [{"role": "user", "content": "x"}, None]])
def test_what_has_no_messages_is_no_rehearsal(said: list[Any]) -> None:
    assert not conforms({"messages": said}, "chatml")
    assert not conforms({"prompt": said, "completion": [{"role": "assistant", "content": "y"}]}, "prompt_completion")
    assert conforms({"prompt": "x", "completion": "y", "label": True}, "kto")


def test_the_shape_of_a_whole_exchange_is_that_of_its_request() -> None:
    plain = {"request": {"messages": [{"role": "user", "content": "Hi"}], "tools": None}, "response": {}}
    odd = {"request": {"messages": ["Hi"], "tools": None}, "response": {}}
    parted = {"request": {"messages": [{"role": "user", "content": ["Hi", {"type": "text"}]}], "tools": None}}
    assert len({shape(plain), shape(odd), shape(parted)}) == 3
    assert in_parts(plain)["request"]["messages"][0]["content"] == [{"type": "text", "text": "Hi"}]
    assert in_parts(odd) == odd
