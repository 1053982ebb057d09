"""The one list of formats, and what is done by a format's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.conversation import Lack
from policies.formats.form import Format, Holds
from policies.formats.line import FormatType, Partners, Style, TrainingLine
from policies.formats.material import Material, misfit, prepared
from policies.formats.pairs import DPO, KTO
from policies.formats.single import ALPACA, CHATML, COMPLETION, PROMPT_COMPLETION
from policies.records import Sample

__all__ = ["FORMATS", "conforms", "format_of", "lines", "prepare"]

FORMATS: Final[Mapping[FormatType, Format]] = {
    form.name: form for form in (CHATML, PROMPT_COMPLETION, ALPACA, COMPLETION, DPO, KTO)
}
_TRIED: Final = (CHATML, DPO, KTO, PROMPT_COMPLETION, COMPLETION, ALPACA)
"""In this order a line is compared with them: a format before those whose fields are among its own."""


def lines(material: Material, partners: Partners) -> list[TrainingLine]:
    """The lines that a prepared sample yields: one as a rule, two from a kto correction, none from a dpo answer that
    waits.

    Give the training file and the holdout file partners of their own, or a pair would sit on both sides.
    """
    return FORMATS[material.style.format_type].build(material, partners)


def format_of(line: Mapping[str, Any]) -> Format | None:
    """The format whose fields a line has, whatever their types; None where it is in no format.

    Of two formats with the same fields it is the one whose first field has the line's type, else the first.
    """
    found = [form for form in _TRIED if form.fields.keys() <= line.keys()]
    same = [form for form in found if form.fields.keys() == found[0].fields.keys()]
    return next((form for form in same if _first_fits(form, line)), found[0] if found else None)


def _first_fits(form: Format, line: Mapping[str, Any]) -> bool:
    name, types = next(iter(form.fields.items()))
    return isinstance(line[name], types)


def conforms(line: Mapping[str, Any], format_type: FormatType) -> bool:
    """Whether a rehearsal line has the fields of the format, with the right JSON types; messages are objects."""
    return all(
        isinstance(value := line.get(name), types)
        and (not isinstance(value, list) or all(isinstance(one, Mapping) for one in value))
        for name, types in FORMATS[format_type].fields.items()
    )


def prepare(sample: Sample, style: Style) -> Material | Lack:
    """The sample made ready for the format, or why the format cannot hold it."""
    form = FORMATS[style.format_type]
    material = prepared(sample, style, weights=Holds.WEIGHTS in form.holds)
    if material is None:
        return Lack.NOT_IN_FORMAT
    reason = misfit(
        material,
        tools=Holds.TOOLS in form.holds,
        attachments=Holds.ATTACHMENTS in form.holds,
        pairs=form.needs_votes,
    )
    return reason or (material if form.fits(material.turns) else Lack.NOT_IN_FORMAT)
