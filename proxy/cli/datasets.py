"""How `ratchet data` shows a dataset in a terminal: counts that add up, reasons with examples, conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from policies.wording import cost, figure, many, score, signed, size
from proxy.cli.common import console
from proxy.cli.printable import plain, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["print_dataset", "print_difference", "print_lines"]

_SHOWN_CHARS: Final = 2_000
_FOLDED_CHARS: Final = 100
_AUTHORS: Final = {"own": "models trained here", "elsewhere": "models from elsewhere", "person": "people's corrections"}
_AUTHOR: Final = {"own": "a model trained here", "elsewhere": "a model from elsewhere", "person": "a person"}


def print_dataset(document: Mapping[str, Any]) -> None:
    """The head of a dataset: what was seen, used and left out, whose answers, size and cost."""
    from rich.table import Table

    out = console()
    table = Table("", "records", box=None, header_style="bold")
    table.columns[1].justify = "right"
    table.add_row("seen", many(document["seen"]))
    for reason in document["dropped"]:
        table.add_row(plain(f"dropped: {reason['reason'].replace('_', ' ')}"), many(reason["count"]))
        for example in reason["examples"]:
            table.add_row(plain(f"  {_example(example)}", "dim"), "")
    table.add_row("kept", many(document["used"]))
    out.print(table)
    for line in _facts(document):
        out.print(plain(line))


def _example(example: Mapping[str, Any]) -> str:
    if example["there"] is False:
        return f"{example['record']}  (no longer in the store)"
    return f"{example['record']}  {example['words'] or ''}".rstrip()


def _facts(document: Mapping[str, Any]) -> list[str]:
    """Sentences; one for each thing that is known."""
    rehearsal = document["rehearsal_samples"]
    of_them = f", {many(rehearsal)} of them rehearsal" if rehearsal else ""
    said = [f"{many(document['samples'])} lines to train on{of_them}; {many(document['holdout_samples'])} held out"]
    if document["ancestry"]:
        told = (f"{many(document['authors'][name])} by {words}" for name, words in _AUTHORS.items())
        said.append(f"whose answers: {document['ancestry']} ({', '.join(told)})")
    if document["liked"] is not None:
        said.append(f"liked by people: {many(document['liked'])}")
    if document["preferred"]:
        said.append(f"from answers that people compared side by side: {many(document['preferred'])}")
    if document["reasoning"]:
        kept = "kept" if document["reasoning"].get("kept") else "left out"
        said.append(f"lines with reasoning: {many(document['reasoning'].get('lines') or 0)}, {kept}")
    weight = []
    if document["bytes"]:
        weight.append(size(document["bytes"]))
    if document["tokens"]:
        weight.append(f"about {many(document['tokens'])} tokens ({document['tokens_by'] or 'estimated'})")
    if document["estimated_cost"] is not None:
        weight.append(f"estimated cost {cost(document['estimated_cost'])}")
    return [*said, f"size: {', '.join(weight)}"] if weight else said


def print_lines(lines: Sequence[Mapping[str, Any]]) -> None:
    """Lines as conversations, each under where it comes from."""
    out = console()
    for line in lines:
        out.print()
        form = f", {line['format']} ({', '.join(line['members'])})" if line["format"] else ""
        out.rule(
            plain(f"line {line['number']}{form}{', rehearsal' if line['rehearsal'] else ''}", "bold"), align="left"
        )
        for source in line["sources"]:
            out.print(plain(_provenance(source), "dim"))
        if line["hidden"]:
            out.print(plain(line["hidden"], "yellow"))
        for row in line["rows"]:
            _print_row(out, row)


def _provenance(source: Mapping[str, Any]) -> str:
    parts = [f"record {source['record']}"]
    if source["author"]:
        parts.append(f"by {_AUTHOR.get(source['author'], source['author'])}")
    if source["model"]:
        parts.append(f"model {source['model']}")
    if source["generation"]:
        parts.append(f"generation {source['generation']}")
    if source["vote"] is not None:
        parts.append(f"vote {signed(source['vote'])}")
    if source["quality"] is not None:
        parts.append(f"score {score(source['quality'])}")
    return " · ".join(parts)


def _print_row(out: Console, row: Mapping[str, Any]) -> None:
    said = _head(row)
    if row["form"] != "tools":
        said.append(_shortened(row), style="" if row["taught"] else "dim")
    out.print(said)


def _head(row: Mapping[str, Any]) -> Text:
    """Who speaks, and what there is to know about it."""
    doing = {"call": " calls", "reasoning": " thinks", "raw": ", as it is"}.get(row["form"], "")
    style = "bold cyan" if row["taught"] else "dim"
    head = plain(f"{row['speaker']}{doing}", style)
    marks = printable(", ".join(row["marks"]))
    return head.append(f" ({marks})" if marks else "", style="dim").append(": ", style=style)


def _shortened(row: Mapping[str, Any]) -> str:
    most = _FOLDED_CHARS if row["form"] == "reasoning" else _SHOWN_CHARS
    text = row["text"] if row["form"] != "reasoning" else " ".join(row["text"].split())
    if len(text) > most:
        text = f"{text[:most]}… ({many(len(text) - most)} more characters)"
    return printable(text)


def print_difference(document: Mapping[str, Any]) -> None:
    """Two datasets side by side."""
    from rich.table import Column, Table

    out = console()
    out.print(plain(f"{document['run']} against {document['former']}", "bold"))
    if document["records"] is None:
        out.print("the records cannot be compared: one of the two has no lineage file here")
    else:
        for name, title in (("new", "new records"), ("gone", "gone"), ("same", "the same")):
            out.print(f"{title}: {many(document['records'][name])}")
            for example in document["examples"][name] if name != "same" else ():
                out.print(plain(f"  {_example(example)}", "dim"))
    table = Table("", *(Column(plain(document[side])) for side in ("former", "run")), box=None, header_style="bold")
    for title, rows in (("", document["counts"]), ("dropped: ", document["dropped"]), ("by ", document["models"])):
        for row in rows:
            name = row["name"] if title == "by " else row["name"].replace("_", " ")
            table.add_row(plain(f"{title}{name}"), _value(row["former"]), _value(row["later"]))
    for row in document["settings"] or ():
        table.add_row(plain(row["name"]), plain(_setting(row["former"])), plain(_setting(row["later"])))
    out.print(table)
    for side, run in (("former", document["former"]), ("later", document["run"])):
        out.print(plain(f"answers of {run}: {document['ancestry'][side] or 'origin unknown'}"))
    if document["settings"] is None:
        out.print("the settings of one of the two are unknown")


def _value(value: Any) -> str:
    return "–" if value is None else many(value) if isinstance(value, int) else figure(value)


def _setting(value: Any) -> str:
    return "not set" if value is None else str(value)
