"""A check as JUnit XML, which every CI reads: a test case for each golden case and each part, and one for the verdict.

A golden case has failed where the challenger lost it; one that the champion does not pass either is skipped. The words
of an answer are quoted: whoever runs this has asked the questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from policies.gate import CheckReport, GateVerdict
from proxy.checks.facts import SIDES
from proxy.checks.golden import GoldenFile
from proxy.store.control.comparisons import ComparedRow

__all__ = ["junit_xml"]

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_QUOTED: Final = 2000


def junit_xml(report: CheckReport, cases: GoldenFile | None, rows: Mapping[str, ComparedRow], seconds: float) -> bytes:
    """The document; `rows` are the compared items, with texts."""
    root = Element("testsuites", name="ratchet check")
    if cases is not None:
        _suite(root, "golden file", _golden(cases, rows))
    _suite(root, "gate", _parts(report), seconds)
    indent(root)
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True))


Case = tuple[str, str, str, str, str]
"""Class, name, what became of it (`failure`, `error`, `skipped` or nothing), why, and the words."""


def _suite(root: Element, name: str, cases: Iterator[Case], seconds: float = 0.0) -> None:
    suite = SubElement(root, "testsuite", name=name, time=f"{seconds:.3f}")
    counts = {"failure": 0, "error": 0, "skipped": 0, "": 0}
    for group, title, outcome, why, words in cases:
        case = SubElement(suite, "testcase", classname=_plain(group), name=_plain(title))
        counts[outcome] += 1
        if outcome:
            SubElement(case, outcome, message=_plain(why)).text = _plain(words)
    suite.set("tests", str(sum(counts.values())))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    suite.set("skipped", str(counts["skipped"]))


def _golden(cases: GoldenFile, rows: Mapping[str, ComparedRow]) -> Iterator[Case]:
    for line in cases.lines:
        group = f"golden.{line.tags[0]}" if line.tags else "golden"
        row = rows.get(line.item)
        if row is None or row.facts["golden"].get("pending"):
            yield group, line.name, "error", "it was not compared", ""
            continue
        wrong = row.facts["golden"]
        why = "; ".join(wrong["challenger"])
        if not wrong["challenger"]:
            yield group, line.name, "", "", ""
        elif wrong["champion"]:
            yield group, line.name, "skipped", f"neither passes: {why}", ""
        else:
            yield group, line.name, "failure", why, _words(row)


def _words(row: ComparedRow) -> str:
    answers: list[tuple[str, Mapping[str, Any]]] = [(side, row.data.get(side) or {}) for side in SIDES]
    return "\n\n".join(
        f"{side}:\n{str(said.get('text') or said.get('failed') or '')[:_QUOTED]}" for side, said in answers
    )


def _parts(report: CheckReport) -> Iterator[Case]:
    outcomes = {GateVerdict.REJECT: "failure", GateVerdict.UNDECIDED: "skipped", GateVerdict.HOLD: "error"}
    for part in report.parts:
        name = "golden file" if part.name == "golden" else "conversations"
        outcome = "skipped" if part.verdict is None else outcomes.get(part.verdict, "")
        yield "gate", name, outcome, f"{part.compared} of at most {part.most} compared", ""
    verdict = report.verdict or GateVerdict.HOLD
    first, *rest = report.reasons or ("nothing was compared",)
    yield "gate", "verdict", outcomes.get(verdict, ""), first, "\n".join(rest)


def _plain(text: str) -> str:
    """Without characters that XML does not have."""
    return _NOT_XML.sub("\ufffd", text)
