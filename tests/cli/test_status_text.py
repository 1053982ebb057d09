"""What `ratchet status` makes of the document for people to read."""

from __future__ import annotations

import pytest

from policies.triggers import Trigger, TriggerProgress
from proxy.cli.status import print_status
from proxy.status import NextStatus, PhaseStatus, Status, TriggerStatus

WAITS = "0 usable samples, 100 needed."


def shown(value: float, hold: str | None, capsys: pytest.CaptureFixture[str]) -> str:
    """The output where a trigger has this value."""
    trigger = TriggerProgress(name=Trigger.SCHEDULE, enabled=True, value=value, target=168.0, fraction=0.0, due=False,
                              reason="due after 7 days")  # fmt: skip
    triggers = TriggerStatus(fired=None, progress=(trigger,), hold=hold, hold_until=None, schedule_at=None)
    print_status(Status(phase=PhaseStatus(name="idle"), next=NextStatus(reasons=(WAITS,)), triggers=triggers))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "figure"),
    [(5.576e-05, "0"), (-0.0001, "0"), (0.705, "0.705"), (23456.0, "23456"), (1e9, "1000000000"), (20.04, "20.04")],
)
def test_figures_have_no_exponent(value: float, figure: str, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = [line for line in shown(value, None, capsys).splitlines() if "due after" in line]
    assert f" {figure} " in row
    assert " 168 " in row


def test_what_keeps_a_retrain_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(1.0, WAITS, capsys).count(WAITS) == 1
    assert "no retrain yet: cool-down" in shown(1.0, "cool-down", capsys)
