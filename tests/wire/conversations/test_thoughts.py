"""Thoughts that stand in the text, and texts that only speak about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.extract.conversations.thoughts import split_thoughts


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>\nhm\n</think>\n\nYes.", "hm", "Yes."),
        ("<Thinking>hm</Thinking>Yes.", "hm", "Yes."),
        ("[THINK]hm[/THINK]Yes.", "hm", "Yes."),
        ("◁think▷hm◁/think▷Yes.", "hm", "Yes."),
        ("<seed:think>hm</seed:think>Yes.", "hm", "Yes."),
        ("<|begin_of_thought|>hm<|end_of_thought|>Yes.", "hm", "Yes."),
        ("hm\n</think>\n\nYes.", "hm", "Yes."),
        ("hm.</think> Yes.", "hm.", "Yes."),
        ("<think>\n</think>\n\nYes.", None, "Yes."),
        ("</think>Yes.", None, "Yes."),
        ("<think>a</think>Well. <think>b</think>Yes.", "a\n\nb", "Well. Yes."),
        ("a</think>Well. <think>b</think>Yes.", "a\n\nb", "Well. Yes."),
        ("İ <think>a</think>Yes.", "a", "İ Yes."),
        ("<think>never done", "never done", ""),
        ("<think>a</think><think>never done", "a\n\nnever done", ""),
    ],
)
def test_what_was_thought_is_told_from_what_was_said(text: str, thought: str | None, said: str) -> None:
    assert split_thoughts(text) == (thought, said)


@pytest.mark.parametrize(
    "text",
    [
        "I think so.",
        "thought|",
        "Models write `<think>` first, and then `</think>`.",
        'They write "<think>" first.',
        "The </think> tag ends it.",
        "The <think> tag begins it.",
        "See:\n```\n<think>hm</think>\n```\nThat is all.",
        "See:\n```\nhm</think>\n```\nThat is all.",
    ],
)
def test_a_text_about_thoughts_stays_as_it_is(text: str) -> None:
    assert split_thoughts(text) == (None, text)


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="<[◁`~'\"“‘")))
def test_a_text_without_tags_is_as_it_was_and_a_thought_before_it_comes_off(said: str, thought: str) -> None:
    if split_thoughts(said) == (None, said):
        found = split_thoughts(f"<think>{thought}</think>{said}")
        assert found == (thought.strip() or None, said.strip())
