"""What the workers have counted of the champion's answers since somebody last looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policies.model_health import Answers
from policies.records import Arm
from proxy.gateway.faults import Fault, answered_slot, failed_slot, left_slot, refused_slot
from proxy.metrics.gateway import stats_files
from proxy.metrics.shared import read_counters

__all__ = ["RequestCounts", "Tallies"]

_ARM: Final = Arm.CHAMPION.label
_REFUSALS: Final = (401, 403, 404, 429, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """What the workers counted between two looks."""

    answers: Answers
    faults: Mapping[Fault, int] = field(default_factory=dict)
    refused: Mapping[int, int] = field(default_factory=dict)
    """By status; 400 stands for all others."""


class Tallies:
    """Reads the workers' counter files. What was counted before this was made is others' business."""

    def __init__(self, run_dir: Path, *, own_key: bool) -> None:
        """`own_key`: whether requests carry a key of ours, so that a refusal of it is no client's fault."""
        self._run = run_dir
        self._own_key = own_key
        self._before = self._read()

    def next(self) -> RequestCounts:
        """What has been counted since the last call, by all workers."""
        now = self._read()
        counts: Counter[str] = Counter()
        for path, values in now.items():
            before = self._before.get(path, {})
            for name, value in values.items():
                earlier = before.get(name, 0.0)
                counts[name] += int(value - earlier if value >= earlier else value)  # less: the file was made anew
        self._before |= now
        return self._tally(counts)

    def _tally(self, counts: Mapping[str, int]) -> RequestCounts:
        faults = {fault: number for fault in Fault if (number := counts.get(failed_slot(_ARM, fault), 0))}
        refused = {status: number for status in _REFUSALS if (number := counts.get(refused_slot(_ARM, status), 0))}
        failed = sum(faults.values())
        denied = refused.get(401, 0) + refused.get(403, 0) if self._own_key else 0
        good = max(0, counts.get(answered_slot(_ARM), 0) - failed - denied)
        left = counts.get(left_slot(_ARM), 0)
        return RequestCounts(
            answers=Answers(good=good, failed=failed, denied=denied, left=left), faults=faults, refused=refused
        )

    def _read(self) -> dict[Path, dict[str, float]]:
        found = {}
        for path in stats_files(self._run):
            try:
                found[path] = read_counters(path)
            except (OSError, ValueError):  # it is being replaced
                continue
        return found
