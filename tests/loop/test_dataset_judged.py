"""What people disliked and corrected, in the history of later conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.caps import Caps
from policies.conversation import Attachment, Conversation, ToolCall, Turn
from policies.records import Sample
from policies.selection import DataGeneratorConfig
from proxy.loop.dataset.judged import Judged
from proxy.loop.dataset.staging import Staging
from tests.loop.test_dataset import REQUEST, builder, read, sample

ALL = DataGeneratorConfig(holdout_share=0.0, min_quality_score=None, deduplicate=False, train_on="all")


@pytest.fixture
def judged() -> Iterator[Judged]:
    with Staging(None) as staging:
        yield staging.judged(Caps(DataGeneratorConfig()))


def talk(n: int, *texts: str, user: int | None = 1, **change: Any) -> Sample:
    """User and model in turn; the last text is the answer."""
    turns = [Turn(role="assistant" if at % 2 else "user", content=text) for at, text in enumerate(texts)]
    said = Conversation(turns=tuple(turns[:-1]), answer=turns[-1])
    return sample(n, query=texts[-2], response=texts[-1], user=user, conversation=said, **change)


BAD = talk(1, "How do I reset it?", "Throw it away.", feedback=-1.0)
LATER = talk(2, "How do I reset it?", "Throw it away.", "No!", "Hold the button.")

LOOKED = Turn(
    role="user",
    content=("Which?", Attachment(medium="image", part={"type": "image_url", "image_url": {"url": "data:,"}})),
)
SEEN = sample(5, user=None, conversation=Conversation(turns=(LOOKED,), answer=Turn(role="assistant", content="Red.")))


def taught(item: Sample) -> list[tuple[str, bool]]:
    return [(turn.text, turn.taught) for turn in item.said.turns if turn.role == "assistant"]


def test_a_disliked_answer_is_not_taught_later(judged: Judged) -> None:
    judged.remember([BAD])
    assert taught(judged.applied(LATER)) == [("Throw it away.", False)]


@pytest.mark.parametrize(
    ("disliked", "later", "same"),
    [
        pytest.param(BAD, talk(2, "How do  I\nreset it?", " Throw it away.\n", "No!", "Ok."), True, id="white space"),
        pytest.param(BAD, talk(2, "How do I reset it?", "Throw it away!", "No!", "Ok."), False, id="another answer"),
        pytest.param(BAD, talk(2, "Where is it?", "Throw it away.", "No!", "Ok."), False, id="another question"),
        pytest.param(BAD, replace(LATER, user=2), False, id="a stranger's vote"),
        pytest.param(BAD, replace(LATER, user=None), False, id="nobody is no one in particular"),
        pytest.param(replace(BAD, user=None), LATER, False, id="a vote of nobody does not reach somebody"),
        pytest.param(replace(BAD, user=None), replace(LATER, user=None), True, id="nobody and nobody"),
        pytest.param(replace(BAD, user=0), replace(LATER, user=None), False, id="the hash 0 is somebody"),
        pytest.param(replace(BAD, feedback=0.0), LATER, False, id="as many liked it"),
        pytest.param(replace(BAD, feedback=-0.2), LATER, True, id="more disliked it"),
        pytest.param(replace(BAD, feedback=1.0), LATER, False, id="liked"),
        pytest.param(replace(BAD, trainable=False), LATER, True, id="not for training"),
    ],
)
def test_what_is_the_same_answer(judged: Judged, disliked: Sample, later: Sample, same: bool) -> None:
    judged.remember([disliked, talk(9, "Other?", "Words.", feedback=-1.0)])
    assert [known for _, known in taught(judged.applied(later))] == [not same]


def test_a_system_prompt_does_not_count(judged: Judged) -> None:
    titled = replace(BAD.said, turns=(Turn(role="system", content="Be brief."), *BAD.said.turns))
    judged.remember([replace(BAD, conversation=titled)])
    assert taught(judged.applied(LATER)) == [("Throw it away.", False)]


LONG = "The albatross sleeps while it glides over the southern seas, and so it does not need any land for months." * 2


@pytest.mark.parametrize(
    ("answer", "later", "instead"),
    [
        pytest.param(LONG, ["Asleep?", LONG], [(LONG, False)], id="a long answer, shown without the documents"),
        pytest.param("In flight.", ["Asleep?", "In flight."], [("In flight.", True)], id="a short one may answer all"),
        pytest.param("In flight.", ["In flight."], [("In flight.", False)], id="the question was cut off"),
        pytest.param("In flight.", ["On land."], [("On land.", True)], id="another answer without its question"),
        pytest.param("In flight.", ["Book.\nAsleep?", "In\nflight."], [("Gliding.", True)], id="put together anew"),
        pytest.param("In flight.", ["Book.\nAsleep?", "Inflight."], [("Gliding.", True)], id="or without a space"),
    ],
)
def test_clients_show_another_history(
    judged: Judged, answer: str, later: list[str], instead: list[tuple[str, bool]]
) -> None:
    judged.remember([talk(1, "Book.\n\nAsleep?", answer, feedback=-1.0, correction="Gliding.")])
    whole = talk(2, *([""] * (len(later) % 2)), *later, "Really?", "No.")
    turns = tuple(turn for turn in whole.said.turns if turn.content)
    assert taught(judged.applied(replace(whole, conversation=replace(whole.said, turns=turns)))) == instead


def test_a_correction_stands_where_the_answer_stood(judged: Judged) -> None:
    newest = replace(BAD, correction="Hold the button for 10 s.")
    older = talk(0, "How do I reset it?", "Throw it away.", feedback=-1.0, correction="Ask the shop.")
    judged.remember([newest, older, BAD])
    assert taught(judged.applied(LATER)) == [("Hold the button for 10 s.", True)]


def test_a_correction_of_what_is_not_for_training_is_not_taught_either(judged: Judged) -> None:
    judged.remember([replace(BAD, correction="My secret.", trainable=False)])
    assert taught(judged.applied(LATER)) == [("Throw it away.", False)]


def test_a_call_is_recognised_however_it_is_written(judged: Judged) -> None:
    def asks(arguments: str) -> Turn:
        return Turn(role="assistant", calls=(ToolCall(name="look", arguments=arguments, id="c"),))

    asked = Turn(role="user", content="Weather?")
    disliked = Conversation(turns=(asked,), answer=asks('{"city": "Rome", "days": 1}'))
    result = Turn(role="tool", content="21", call_id="c")
    judged.remember([sample(1, user=1, conversation=disliked, feedback=-1.0, correction="Where are you?")])
    for arguments, known in (('{"days":1,"city":"Rome"}', True), ('{"city":"Oslo"}', False), ("{broken", False)):
        later = Conversation(turns=(asked, asks(arguments), result), answer=Turn(role="assistant", content="21."))
        turn = judged.applied(sample(2, user=1, conversation=later)).said.turns[1]
        assert turn.taught is not known
        assert turn.calls, "words cannot stand in the place of a call that has a result"


@pytest.mark.parametrize(
    ("correction", "format_type", "expected"),
    [
        (None, "chatml", [("Throw it away.", 0), ("Hold the button.", 1)]),
        ("Press reset.", "chatml", [("Press reset.", 1), ("Hold the button.", 1)]),
        (None, "prompt_completion", [("Hold the button.", 1)]),
        ("Press reset.", "prompt_completion", [("Press reset.", 1), ("Hold the button.", 1)]),
    ],
)
async def test_from_votes_to_the_file(
    tmp_path: Path, correction: str | None, format_type: Any, expected: list[tuple[str, int]]
) -> None:
    history = [replace(BAD, correction=correction), LATER, talk(3, "Hi", "Hello", user=2)]
    manifest = await builder(history, replace(ALL, format_type=format_type), tmp_path).build(REQUEST)
    (line,) = [line for line in read(manifest.data_path) if "Hold the button." in json.dumps(line)]
    said = line.get("messages") or line["prompt"] + line["completion"]
    assert [(m["content"], m.get("weight", 1)) for m in said if m["role"] == "assistant"] == expected


async def test_votes_on_records_after_the_end_do_not_count(tmp_path: Path) -> None:
    early = replace(LATER, record_id=sample(0).record_id)
    request = replace(REQUEST, until_s=early.created_at - 1.5)
    manifest = await builder([early, replace(BAD, record_id=sample(1).record_id)], ALL, tmp_path).build(request)
    assert [m.get("weight", 1) for line in read(manifest.data_path) for m in line["messages"]] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("attachments", "texts", "kept", "parts"),
    [("auto", 1, 2, True), ("auto", 2, 2, False), ("keep", 2, 3, True), ("drop", 1, 1, False), ("auto", 0, 1, True)],
)
async def test_pictures_are_in_the_whole_file_or_left_out(
    tmp_path: Path, attachments: Any, texts: int, kept: int, parts: bool
) -> None:
    history = [talk(n, f"Hi {n}", "Hello", user=None) for n in range(1, texts + 1)] + [SEEN]
    config = replace(ALL, attachments=attachments, max_samples=kept)
    manifest = await builder(history, config, tmp_path).build(REQUEST)
    contents = [message["content"] for line in read(manifest.data_path) for message in line["messages"]]
    assert manifest.samples == kept
    assert {isinstance(content, list) for content in contents} == {parts}
    assert manifest.dropped == ({} if kept > texts else {"multimodal": 1})


async def test_a_picture_puts_old_lines_in_parts_too(tmp_path: Path) -> None:
    history = [talk(1, "Hi", "Hello", user=None), SEEN]
    rehearsal = tmp_path / "old.jsonl"
    rehearsal.write_text('{"messages": [{"role": "user", "content": "Old"}]}\n')
    config = replace(ALL, include_existing_data=True, existing_data_path=str(rehearsal), existing_data_share=0.4)
    manifest = await builder(history, config, tmp_path).build(REQUEST)
    contents = [message["content"] for line in read(manifest.data_path) for message in line["messages"]]
    assert len(contents) == 5
    assert all(isinstance(content, list) for content in contents)


async def test_a_picture_in_the_rehearsal_buffer_does_too(tmp_path: Path) -> None:
    rehearsal = tmp_path / "old.jsonl"
    rehearsal.write_text('{"messages": [{"role": "user", "content": [{"type": "text", "text": "Old"}]}]}\n')
    config = replace(ALL, include_existing_data=True, existing_data_path=str(rehearsal), existing_data_share=0.5)
    manifest = await builder([talk(1, "Hi", "Hello")], config, tmp_path).build(REQUEST)
    assert all(isinstance(m["content"], list) for line in read(manifest.data_path) for m in line["messages"])


async def test_a_large_file_shows_its_shapes_at_its_head(tmp_path: Path) -> None:
    long = "word " * 20_000
    history = [talk(n, f"Question {n}? {long}", "Answer.", user=None) for n in range(85)]
    history.append(talk(90, "One?", "Two.", "Three?", "Four.", user=None))
    manifest = await builder(history, ALL, tmp_path / "a").build(REQUEST)
    assert [len(line["messages"]) for line in read(manifest.data_path)] == [2] * 85 + [4], "of one shape"
    manifest = await builder(history, replace(ALL, train_on="last"), tmp_path / "b").build(REQUEST)
    assert [len(line["messages"]) for line in read(manifest.data_path)] == [2, 4] + [2] * 84
    asked = [line["messages"][0]["content"][:12] for line in read(manifest.data_path)]
    assert asked[:4] == ["Question 0? ", "One?", "Question 1? ", "Question 2? "]
    rows = (tmp_path / "b" / "run-1" / "lineage.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows[:3]] == [sample(n).record_id for n in (0, 90, 1)]


@pytest.mark.parametrize(
    ("again", "kept"),
    [
        pytest.param({}, False, id="without a vote"),
        pytest.param({"feedback": 1.0}, True, id="liked this time"),
        pytest.param({"feedback": 0.0}, True, id="neither this time"),
        pytest.param({"user": 2}, True, id="somebody else's"),
        pytest.param({"correction": "Press reset."}, True, id="corrected"),
    ],
)
async def test_a_disliked_answer_that_comes_again_is_not_taught(
    tmp_path: Path, again: dict[str, Any], kept: bool
) -> None:
    same = talk(2, "How do I reset it?", "Throw it  away.", **again)
    manifest = await builder([BAD, same, talk(3, "Hi", "Hello", user=2)], ALL, tmp_path).build(REQUEST)
    assert len(read(manifest.data_path)) == 1 + kept
    assert manifest.dropped == {"negative_feedback": 1 + (not kept)}


def test_who_corrects_a_hundred_answers_teaches_the_newest_in_later_chats(judged: Judged) -> None:
    """What one user may correct holds for the history, too; that the others were wrong, it still says."""
    for start in (0, 100):
        newest_first = [talk(start + n, f"question {n}", f"answer {n}", correction=f"better {n}") for n in range(25)]
        judged.remember([replace(item, user=start, cluster=7 if start else None) for item in newest_first])
    for user in (0, 100):
        told = [
            taught(judged.applied(replace(talk(999, f"question {n}", f"answer {n}", "and?", "so."), user=user)))
            for n in range(25)
        ]
        assert told == [[(f"better {n}", True)] if n < 20 else [(f"answer {n}", False)] for n in range(25)]


async def test_corrections_are_bounded_by_user_by_cluster_and_by_share(tmp_path: Path) -> None:
    """Ten users behind one cluster that nobody vouches for, and one user with many of them, beside honest answers."""
    config = replace(ALL, min_quality_score=0.5, max_corrections_per_user=20)
    plain = [talk(n, f"plain {n}", f"answer {n}", user=1000 + n) for n in range(60)]
    crowd = [
        talk(100 + n, f"crowd {n}", "x", user=n % 10, cluster=7, feedback=-1.0, correction=f"buy {n}")
        for n in range(40)
    ]
    eager = [talk(200 + n, f"eager {n}", "x", user=50, feedback=-1.0, correction=f"better {n}") for n in range(30)]
    manifest = await builder([*plain, *crowd, *eager], config, tmp_path).build(REQUEST)
    assert manifest.authors == {"person": 15, "elsewhere": 60, "own": 0}
    assert manifest.dropped == {"corrections_of_one": 20 + 10, "correction_share": 40 - 15}
