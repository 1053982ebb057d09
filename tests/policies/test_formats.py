"""Formats: the same conversation in each of them, written out, and the rules of preference pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.conversation import Conversation, Turn
from policies.formats import MemoryPartners, conforms, lines
from policies.records import Author, FormatType, Sample

ASKED = {"role": "user", "content": "What is a SNES?"}
ANSWERED = {"role": "assistant", "content": "A console."}
FOLLOWS = {"role": "user", "content": "And its CPU?"}
SYSTEM = {"role": "system", "content": "Be brief."}


def said(*messages: dict[str, str], answer: str) -> Conversation:
    turns = tuple(Turn(role=message["role"], content=message["content"]) for message in messages)  # type: ignore[arg-type]
    return Conversation(turns=turns, answer=Turn(role="assistant", content=answer))


SAMPLE = Sample(
    record_id="r1",
    created_at=0.0,
    user=1,
    query="What is a SNES?",
    response="A console.",
    conversation=said(ASKED, answer="A console."),
    generation=1,
)
LONG = replace(
    SAMPLE,
    query="And its CPU?",
    response="A 65816.",
    conversation=said(SYSTEM, ASKED, ANSWERED, FOLLOWS, answer="A 65816."),
)


def bodies(sample: Sample, format_type: FormatType, system_prompt: str | None = None) -> list[Any]:
    return [line.body for line in lines(sample, format_type, system_prompt, MemoryPartners())]


def test_chatml() -> None:
    assert bodies(SAMPLE, "chatml") == [{"messages": [ASKED, ANSWERED]}]
    assert bodies(LONG, "chatml") == [
        {"messages": [SYSTEM, ASKED, ANSWERED, FOLLOWS, {"role": "assistant", "content": "A 65816."}]}
    ]


def test_a_bare_prompt_is_one_user_message() -> None:
    assert bodies(replace(SAMPLE, conversation=None), "chatml") == [{"messages": [ASKED, ANSWERED]}]


def test_the_system_prompt_goes_before_conversations_that_have_none() -> None:
    assert bodies(SAMPLE, "chatml", "Be brief.") == [{"messages": [SYSTEM, ASKED, ANSWERED]}]
    assert bodies(LONG, "chatml", "Ramble.") == bodies(LONG, "chatml")
    developer = replace(SAMPLE, conversation=said({"role": "system", "content": "x"}, ASKED, answer="A console."))
    assert bodies(developer, "chatml", "Ramble.") == bodies(developer, "chatml")


def test_alpaca() -> None:
    assert bodies(SAMPLE, "alpaca") == [{"instruction": "What is a SNES?", "input": "", "output": "A console."}]
    assert bodies(LONG, "alpaca") == [
        {
            "instruction": "And its CPU?",
            "input": "",
            "output": "A 65816.",
            "system": "Be brief.",
            "history": [["What is a SNES?", "A console."]],
        }
    ]


def test_completion() -> None:
    assert bodies(SAMPLE, "completion") == [{"prompt": "What is a SNES?", "completion": "A console."}]
    assert bodies(LONG, "completion") == [
        {
            "prompt": (
                "system: Be brief.\n\nuser: What is a SNES?\n\nassistant: A console.\n\n"
                "user: And its CPU?\n\nassistant:"
            ),
            "completion": "A 65816.",
        }
    ]


@pytest.mark.parametrize("format_type", ["chatml", "alpaca", "completion"])
def test_a_correction_replaces_the_answer_and_is_nobodys_but_a_persons(format_type: FormatType) -> None:
    (line,) = lines(replace(SAMPLE, correction="A 16-bit console."), format_type, None, MemoryPartners())
    assert "A 16-bit console." in str(line.body)
    assert "'A console.'" not in str(line.body)
    assert line.author is Author.PERSON
    assert lines(SAMPLE, format_type, None, MemoryPartners())[0].author is Author.OWN


def test_kto_labels_the_vote() -> None:
    assert bodies(replace(SAMPLE, feedback=1.0), "kto") == [
        {"prompt": [ASKED], "completion": [ANSWERED], "label": True}
    ]
    assert bodies(replace(SAMPLE, feedback=-0.2), "kto")[0]["label"] is False
    assert bodies(SAMPLE, "kto")[0]["label"] is False


def test_kto_makes_two_lines_of_a_correction() -> None:
    good, bad = bodies(replace(SAMPLE, correction="A 16-bit console."), "kto")
    assert good == {
        "prompt": [ASKED],
        "completion": [{"role": "assistant", "content": "A 16-bit console."}],
        "label": True,
    }
    assert bad == {"prompt": [ASKED], "completion": [ANSWERED], "label": False}
    assert len(bodies(replace(SAMPLE, response="", correction="A 16-bit console."), "kto")) == 1


def test_dpo_prefers_the_correction() -> None:
    corrected = replace(SAMPLE, correction="A 16-bit console.")
    (line,) = lines(corrected, "dpo", None, MemoryPartners())
    assert line.body == {
        "prompt": [ASKED],
        "chosen": [{"role": "assistant", "content": "A 16-bit console."}],
        "rejected": [ANSWERED],
    }
    assert line.author is Author.PERSON
    assert bodies(replace(corrected, response=" "), "dpo") == []


def test_dpo_pairs_opposite_votes_on_the_same_question_once() -> None:
    partners = MemoryPartners()
    liked = replace(SAMPLE, feedback=1.0)
    disliked = replace(SAMPLE, feedback=-1.0, response="A fish.", generation=0, query="what is a snes?")
    assert lines(liked, "dpo", None, partners) == []
    (pair,) = lines(replace(disliked, conversation=None), "dpo", None, partners)
    assert pair.body["chosen"] == [ANSWERED]
    assert pair.body["rejected"] == [{"role": "assistant", "content": "A fish."}]
    assert pair.author is Author.OWN, "the answer to be learnt is by a model trained here"
    assert pair.partner is not None
    assert pair.partner.record_id == liked.record_id
    assert lines(disliked, "dpo", None, partners) == [], "the good answer was used up"
    (second,) = lines(liked, "dpo", None, partners)
    assert second.body == {**pair.body, "prompt": [ASKED]}


def test_dpo_does_not_pair_different_conversations() -> None:
    partners = MemoryPartners()
    assert lines(replace(SAMPLE, feedback=1.0), "dpo", None, partners) == []
    assert lines(replace(LONG, query=SAMPLE.query, feedback=-1.0), "dpo", None, partners) == []


@pytest.mark.parametrize(
    ("line", "format_type", "good"),
    [
        ({"messages": []}, "chatml", True),
        ({"messages": "hi"}, "chatml", False),
        ({"prompt": "a", "completion": "b"}, "completion", True),
        ({"prompt": "a"}, "completion", False),
        ({"prompt": "a", "completion": "b", "label": True}, "kto", True),
        ({"prompt": "a", "completion": "b", "label": 1}, "kto", False),
        ({"prompt": [ASKED], "chosen": [ANSWERED], "rejected": "x"}, "dpo", True),
        ({"instruction": "a", "output": "b"}, "alpaca", True),
    ],
)
def test_rehearsal_lines_are_checked_against_the_format(line: Any, format_type: FormatType, good: bool) -> None:
    assert conforms(line, format_type) is good


@given(
    query=st.text(min_size=1),
    response=st.text(min_size=1),
    format_type=st.sampled_from(["chatml", "alpaca", "completion", "kto"]),
    prompt=st.none() | st.text(),
)
def test_what_is_written_conforms(query: str, response: str, format_type: FormatType, prompt: str | None) -> None:
    sample = replace(SAMPLE, query=query, response=response, conversation=None)
    assert all(conforms(body, format_type) for body in bodies(sample, format_type, prompt))
