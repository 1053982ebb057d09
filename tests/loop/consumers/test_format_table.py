"""The list of formats: what one that is only half there lacks, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, get_args

import orjson
import pytest
import typer.main

from policies.conversation import Conversation, Turn
from policies.formats import (
    FORMATS,
    ConsumerName,
    Format,
    FormatType,
    MemoryPartners,
    Style,
    conforms,
    format_of,
    prepare,
)
from policies.formats.form import Member
from policies.formats.material import Material
from policies.formats.table import _TRIED
from policies.records import Sample
from proxy.cli.app import app
from proxy.cli.check_data import Reader
from proxy.loop.consumers import CONSUMERS
from proxy.loop.consumers.lines import dialogue
from proxy.loop.consumers.openai import OpenAI
from proxy.web.datasets.rendering import Form, rows_in
from tests.harness import records_page

PAGE: Final = records_page.PAGE.read_text(encoding="utf-8")
CONSOLE: Final = "message_fields (as the console shows them)"
LEARNT: Final = "message_fields (what is learnt)"
ROW: Final = "its row in docs/reference/records.md: run `make docs`"
PLACES: Final = "its places in FORMATS, in FormatType, and among the formats that are tried"
QUESTION, ANSWER, CORRECTION = "Which river?", "The Rhine.", "The Aare."
CORRECTED: Final = Sample(
    record_id="r1", created_at=0.0, user=1, query=QUESTION, response=ANSWER, correction=CORRECTION, generation=1,
    conversation=Conversation(
        turns=(Turn(role="user", content=QUESTION),), answer=Turn(role="assistant", content=ANSWER)
    ),
)  # fmt: skip


def lines_of(form: Format) -> list[dict[str, Any]]:
    """What the format makes of a corrected answer."""
    material = prepare(CORRECTED, Style(format_type=form.name))
    assert isinstance(material, Material)
    return [orjson.loads(orjson.dumps(dict(line.body))) for line in form.build(material, MemoryPartners())]


def lacks(form: Format, page: str = PAGE) -> set[str]:
    """What is missing of a format."""
    return set(_lacks(form, page))


def _lacks(form: Format, page: str) -> Iterator[str]:
    if FORMATS.get(form.name) != form or form not in _TRIED or form.name not in get_args(FormatType):
        yield PLACES
    if records_page.format_row(form) not in page:
        yield ROW
    made = lines_of(form)
    if not made:
        yield "build"
    for line in made:
        if not conforms(line, form.name) or format_of(line) != FORMATS[form.name]:
            yield "fields"
        else:
            yield from _unread(form, line)


def _unread(form: Format, line: dict[str, Any]) -> Iterator[str]:
    rows = rows_in(form, line)
    taught = {row.text for row in rows if row.taught and row.speaker == "assistant"}
    if any(row.form is Form.RAW for row in rows) or not any(QUESTION in row.text for row in rows):
        yield CONSOLE
    if line.get("label") is not False and taught != {CORRECTION}:
        yield LEARNT
    if form.consumers - {"axolotl"} and str not in form.fields.values() and not all(end for _, end in dialogue(line)):
        yield "message_fields (the consumers' view)"
    if "openai" in form.consumers and list(OpenAI().problems(line)):
        yield "the rules of OpenAI"


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_format_lacks_nothing(form: Format) -> None:
    assert lacks(form) == set()


def test_every_choice_is_one_of_the_lists() -> None:
    data = typer.main.get_command(app).commands["data"]  # type: ignore[attr-defined]
    for verb in ("preview", "export"):
        [option] = [option for option in data.commands[verb].params if option.name == "format"]
        assert get_args(option.type_descriptor.annotation) == (*FORMATS, "nvidia")
    assert set(CONSUMERS) == set(get_args(ConsumerName)) == {reader.value for reader in Reader}
    for name in get_args(ConsumerName):
        assert CONSUMERS[name](None).takes == tuple(form for form, value in FORMATS.items() if name in value.consumers)


BROKEN: Final[Mapping[str, tuple[Callable[[Format], Format], str]]] = {
    "no row": (lambda form: replace(form, meaning="Another trainer."), ROW),
    "no builder": (lambda form: replace(form, build=lambda *_: []), "build"),
    "wrong lines": (lambda form: replace(form, build=FORMATS["completion"].build), "fields"),
    "not read back": (lambda form: replace(form, message_fields={"chosen": Member.ANSWER}), CONSOLE),
    "both learnt": (
        lambda form: replace(form, message_fields={**form.message_fields, "rejected": Member.ANSWER}), LEARNT
    ),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_half_registered_format_is_told_what_it_lacks(broken: str) -> None:
    spoil, missing = BROKEN[broken]
    assert missing in lacks(spoil(FORMATS["dpo"]))
    assert PLACES in lacks(spoil(FORMATS["dpo"]))
