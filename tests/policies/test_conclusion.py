"""What a check says in the end: worse anywhere rejects, missing holds, and a pass needs what was to be compared."""

from __future__ import annotations

from itertools import product

import pytest

from policies.conclusion import conclude, conversations_part, golden_part
from policies.gate import PAIRS, SCORES, CheckPart, GateVerdict, GoldenCase, gate, golden

PASS, REJECT, UNDECIDED, HOLD = GateVerdict.PASS, GateVerdict.REJECT, GateVerdict.UNDECIDED, GateVerdict.HOLD
VERDICTS = (None, PASS, REJECT, UNDECIDED)


def cases(lost: int, won: int, tied: int, tag: str | None = None) -> list[GoldenCase]:
    tags = () if tag is None else (tag,)
    return (
        [GoldenCase(True, False, tags)] * lost
        + [GoldenCase(False, True, tags)] * won
        + [GoldenCase(True, True, tags)] * tied
    )


def of_golden(*groups: list[GoldenCase], missing: int = 0) -> CheckPart:
    every = [case for group in groups for case in group]
    return golden_part(golden(every), done=len(every), cases=len(every) + missing)


def of_conversations(xs: list[float], name: str = "visible", *, available: int = 400, ended: bool = False) -> CheckPart:
    rule = PAIRS if name == "pairs" else SCORES
    return conversations_part(name, gate(xs, rule), rule, available=available, ended=ended)


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (of_golden(cases(0, 0, 50)), PASS),
        (of_golden(cases(1, 1, 48)), PASS),
        (of_golden(cases(3, 0, 47)), UNDECIDED),  # 6 % lost, and a chance of one in eight
        (of_golden(cases(8, 0, 42)), REJECT),
        (of_golden(cases(0, 0, 200), cases(8, 0, 4, "refunds")), REJECT),
        (of_golden(cases(8, 0, 42), missing=1), None),
        (of_golden([], missing=3), None),
    ],
)
def test_the_golden_file_decides_when_all_of_it_is_known(part: CheckPart, verdict: GateVerdict | None) -> None:
    assert part.verdict is verdict


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (of_conversations([0.0] * 109), PASS),
        (of_conversations([-1.0] * 20), REJECT),
        (of_conversations([0.0] * 60), None),
        (of_conversations([0.0] * 60, available=60), UNDECIDED),
        (of_conversations([0.0] * 60, ended=True), UNDECIDED),
        (of_conversations([], available=0), UNDECIDED),
        (of_conversations([0.0] * 77, "pairs"), PASS),
    ],
)
def test_conversations_decide_as_soon_as_they_can(part: CheckPart, verdict: GateVerdict | None) -> None:
    assert part.verdict is verdict


def named(name: str, verdict: GateVerdict | None) -> CheckPart:
    """A part with that verdict; what it counts does not matter."""
    if name == "golden":
        return {
            None: of_golden([], missing=1),
            PASS: of_golden(cases(0, 0, 9)),
            REJECT: of_golden(cases(9, 0, 0)),
            UNDECIDED: of_golden(cases(2, 0, 9)),
        }[verdict]
    return {
        None: of_conversations([]),
        PASS: of_conversations([0.0] * 109),
        REJECT: of_conversations([-1.0] * 20),
        UNDECIDED: of_conversations([0.0] * 9, ended=True),
    }[verdict]


@pytest.mark.parametrize(("golden", "conversations", "ended"), list(product(VERDICTS, VERDICTS, (False, True))))
def test_every_combination(golden: GateVerdict | None, conversations: GateVerdict | None, ended: bool) -> None:
    parts = {"golden": named("golden", golden), "conversations": named("visible", conversations)}
    verdict, reasons = conclude(**parts, holds=(), notes=("a note",), ended=ended)  # type: ignore[arg-type]
    held, _ = conclude(**parts, holds=("the judge is away",), notes=(), ended=ended)  # type: ignore[arg-type]
    assert reasons[-1] == "a note"
    if REJECT in (golden, conversations):
        assert verdict is held is REJECT
        assert "worse" in reasons[0]
    elif None in (golden, conversations):
        assert verdict is held is (HOLD if ended else None)
    else:
        assert verdict is conversations
        assert held is (HOLD if ended else None)


def test_a_golden_file_alone_decides_alone() -> None:
    for verdict in (PASS, REJECT, UNDECIDED):
        assert (
            conclude(golden=named("golden", verdict), conversations=None, holds=(), notes=(), ended=True)[0] is verdict
        )


def test_nothing_at_all_is_undecided() -> None:
    nothing = {"golden": None, "conversations": None, "holds": ()}
    assert conclude(**nothing, notes=(), ended=True) == (UNDECIDED, ("nothing was compared",))  # type: ignore[arg-type]
    assert conclude(**nothing, notes=("nobody was there",), ended=True) == (UNDECIDED, ("nobody was there",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (
            of_golden(cases(0, 0, 50)),
            "golden file: of 50 cases the challenger lost 0 and won 0: no worse than the margin allows",
        ),
        (
            of_golden(cases(3, 0, 47)),
            "golden file: of 50 cases the challenger lost 3 and won 0: more than "
            "the margin, and not enough to prove it worse",
        ),
        (of_golden(cases(9, 0, 41)), "golden file: of 50 cases the challenger lost 9 and won 0: it is worse"),
        (of_golden([], missing=2), "golden file: 0 of 2 cases so far"),
        (
            of_conversations([0.0] * 109),
            "conversations of 109 users: by visible defects it is as good on average: it is not worse by 0.07 or more",
        ),
        (
            of_conversations([-1.0] * 20, "scores"),
            "conversations of 20 users: a judge's scores of it are 1.000 worse on average: it is worse",
        ),
        (
            of_conversations([0.5], "pairs", ended=True),
            "1 conversation is too few to show anything (about 80 are needed): by a judge's preferences it is "
            "0.500 better on average",
        ),
        (
            of_conversations([-0.0004] * 30, ended=True),
            "30 conversations are too few to show anything (about 110 are needed): by visible defects it is "
            "as good on average",
        ),
        (of_conversations([], ended=True), "no conversation was compared (about 110 are needed)"),
        (
            of_conversations([-0.5, 0.45] * 60, ended=True),
            "conversations of 120 users: by visible defects it is 0.025 worse on average: it was shown neither that "
            "it is worse, nor that it is not worse by 0.07 or more",
        ),
        (of_conversations([0.0]), "conversations: 1 of at most 400 users so far"),
    ],
)
def test_the_sentences(part: CheckPart, sentence: str) -> None:
    parts = (
        {"golden": part, "conversations": None} if part.name == "golden" else {"golden": None, "conversations": part}
    )
    assert conclude(**parts, holds=(), notes=(), ended=False)[1] == (sentence,)  # type: ignore[arg-type]


def test_tags_are_named_three_at_most() -> None:
    groups = [cases(12, 0, 0, tag) for tag in "abcde"]
    _, reasons = conclude(golden=of_golden(*groups), conversations=None, holds=(), notes=(), ended=True)
    assert reasons[0].endswith(
        "worse in 'a' (12 lost, 0 won), 'b' (12 lost, 0 won), 'c' (12 lost, 0 won) and 2 more tags"
    )
