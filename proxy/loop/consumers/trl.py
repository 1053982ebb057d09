"""TRL and Axolotl: both read a file with `datasets`, and write its conversations with a model's chat template.

They differ in the arguments of calls: TRL gives them to the template as they are, Axolotl makes objects of JSON text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from proxy.loop.consumers import templates
from proxy.loop.consumers.lines import (
    dialogue,
    form_of,
    formats_for,
    message_problems,
    tools_of,
    tools_problems,
)
from proxy.loop.consumers.report import Report

__all__ = ["TRL", "Axolotl"]

_NO_WEIGHTS: Final = (
    "TRL reads no weights, and learns earlier turns too: in format prompt_completion it learns the answers alone."
)


class TRL:
    """Every format but NVIDIA's: SFT, DPO and KTO trainers."""

    name = "trl"
    takes = formats_for("trl")
    _arguments_become_objects = False

    def __init__(self, template: str | None = None) -> None:
        """`template`: name of one that TRL ships, a file, or a model's folder. Raises ConfigError for none of these."""
        self._template = templates.load(template)
        notes = []
        self._weighted = False
        if self._template is None:
            notes.append("no chat template is rendered: pip install 'ratchet-proxy[check]' brings TRL's.")
        if _version("datasets") is None:
            notes.append("the file is not loaded with datasets: pip install 'ratchet-proxy[check]'.")
        self.notes: tuple[str, ...] = tuple(notes)
        names = [f"template {self._template.name}"] if self._template else ["the rules that all readers share"]
        if (found := _version("datasets")) is not None:
            names.append(f"datasets {found}")
        self.checked_by = ", ".join(names)

    def problems(self, line: Mapping[str, Any]) -> Iterator[str]:
        """What would go wrong with a line."""
        if form_of(line) not in self.takes:
            yield f"the line is in no form that it reads; write one of the formats {', '.join(self.takes)}"
            return
        tools = tools_of(line)
        for _, messages in dialogue(line):
            self._weighted |= any(isinstance(message, Mapping) and "weight" in message for message in messages)
            shared = [*tools_problems(tools), *message_problems(messages, tools)]
            yield from shared
            if not shared and self._template is not None:
                yield from self._template.problems(self._as_read(messages), tools)

    def file_problems(self, report: Report, size: int) -> Iterator[str]:
        """Whether `datasets` loads the file, with one schema."""
        if self._weighted and not self._arguments_become_objects:
            report.notes += (_NO_WEIGHTS,)
        if report.lines and _version("datasets") is not None:
            yield from _load(Path(report.path))

    def _as_read(self, messages: list[Any]) -> list[Any]:
        return _with_objects(messages) if self._arguments_become_objects else messages


class Axolotl(TRL):
    """Files with `messages` (type chat_template) and alpaca files."""

    name = "axolotl"
    takes = formats_for("axolotl")
    _arguments_become_objects = True

    def __init__(self, template: str | None = None) -> None:
        """See TRL."""
        super().__init__(template)
        self.notes += ("weights count with `message_field_training: weight` in the dataset's configuration.",)


def _with_objects(messages: list[Any]) -> list[Any]:
    copied = copy.deepcopy(messages)
    for message in copied:
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            if isinstance(function.get("arguments"), str):
                function["arguments"] = json.loads(function["arguments"])
    return copied


def _load(path: Path) -> Iterator[str]:
    import tempfile

    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="ratchet-check-") as cache:
        try:
            datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)
        except Exception as error:  # noqa: BLE001 - whatever it raises, the trainer would meet it
            cause = error.__cause__ or error
            yield f"datasets cannot load the file: {' '.join(str(cause).split())[:300]}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
