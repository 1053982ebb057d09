"""A judge that is related to what it judges is advised against."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.config import Config, parse_config
from proxy.config.family import family_of, judge_notes


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama"),
        ("llama3.2:1b", "llama"),
        ("ft:gpt-4o-mini-2024-07-18:acme::9x", "gpt"),
        ("gpt-5", "gpt"),
        ("Qwen/Qwen2.5-7B", "qwen"),
        ("claude-sonnet-4-5", "claude"),
        ("openai/gpt-oss-20b", "gpt"),
        ("my-model", None),
        ("7b", None),
        ("", None),
    ],
)
def test_a_family_is_the_first_word_that_says_something(model: str, family: str | None) -> None:
    assert family_of(model) == family


def _notes(judge: dict[str, Any], **tables: dict[str, Any]) -> list[str]:
    settings = {"kind": "openai", "url": "http://10.0.0.9:8000/v1", "model": "mistral-large", **judge}
    config: Config = parse_config({"champion": {"url": "http://10.0.0.1:8000"}, "judge": settings, **tables})
    return list(judge_notes(config))


@pytest.mark.parametrize(
    ("judge", "tables", "words"),
    [
        ({"url": "http://10.0.0.1:8000/v1"}, {}, "judge.url is the server of champion.url"),
        ({}, {"deployer": {"url": "http://10.0.0.9:8000"}}, "judge.url is the server of deployer.url"),
        ({"model": "gpt-5"}, {"champion": {"url": "https://api.openai.com", "model": "gpt-4o"}},
         "judge.model is of the family of champion.model (gpt)"),
        ({"url": "https://api.openai.com/v1", "model": "gpt-5"}, {"champion": {"url": "https://api.openai.com"}},
         "judge.url and champion.url are both OpenAI's"),
        ({"trust": "unrectified"}, {}, 'judge.trust is "unrectified"'),
        ({"sample": 0}, {}, "nothing is judged"),
    ],
)  # fmt: skip
def test_what_speaks_against_a_judge_is_said(judge: dict[str, Any], tables: dict[str, Any], words: str) -> None:
    (note,) = _notes(judge, **tables)
    assert words in note


def test_a_judge_of_a_third_family_is_fine_and_no_judge_as_well() -> None:
    assert _notes({}, champion={"url": "https://api.openai.com", "model": "gpt-4o"}) == []
    assert list(judge_notes(parse_config({"champion": {"url": "http://10.0.0.1:8000"}}))) == []
