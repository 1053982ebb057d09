"""Logged chats as NVIDIA's data flywheel reads them: whole requests and answers in OpenAI's form, not bare texts.

    {"timestamp": 1700000000, "client_id": "shop", "workload_id": "support", "request": {…}, "response": {…}}

The records are those that a training file would hold, chosen by the same rules; only chat completions have the form
that the flywheel checks (messages in the request, choices with a message in the response). Tools and their calls are
kept. A person's correction takes the answer's place. `workload_id` is the record's tag of that name, where it has one.

Source of the form: NVIDIA-AI-Blueprints/data-flywheel, `openai_format_validator.py` and `load_test_data.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Protocol

import orjson

from policies.formats import Line, Partners
from policies.kinds import Kind
from policies.records import Arm, Sample
from policies.selection import DataGeneratorConfig
from proxy.loop.dataset.picking import LineFormat
from proxy.store.samples import sample_of
from proxy.store.values import RecordFlag, RecordView

__all__ = ["FLYWHEEL", "FlywheelSource", "RecordSource", "flywheel_config"]

_CUT: Final = RecordFlag.TRUNCATED_REQUEST | RecordFlag.TRUNCATED_RESPONSE


class RecordSource(Protocol):
    """The store, or an archive."""

    def iter_records(
        self, *, after_id: str | None = None, before_id: str | None = None, newest_first: bool = False, chunk: int = 200
    ) -> AsyncIterator[RecordView]:
        """Every record between two ids, both exclusive."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chat(Sample):
    """A sample that knows its line, or why it has none."""

    line: Mapping[str, Any] = field(default_factory=dict)
    refused: str | None = None


class FlywheelSource:
    """The chats of `records` as samples for a dataset builder that writes with FLYWHEEL."""

    def __init__(self, records: RecordSource, *, client_id: str, workload_id: str) -> None:
        """`client_id` names the application, `workload_id` the task of records without a tag `workload_id`."""
        self._records = records
        self._client_id = client_id
        self._workload_id = workload_id

    async def iter_samples(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        min_quality: float | None = None,
        min_feedback: float | None = None,
        newest_first: bool = False,
        chunk: int = 200,
    ) -> AsyncIterator[Sample]:
        """As `Store.iter_samples`; the builder filters by quality and votes."""
        assert min_quality is None
        assert min_feedback is None
        walk = self._records.iter_records(
            after_id=after_id, before_id=before_id, newest_first=newest_first, chunk=chunk
        )
        async for view in walk:
            sample = sample_of(view)
            if sample is None or view.body is None:
                continue
            values = {item.name: getattr(sample, item.name) for item in fields(Sample)}
            line = self._line(view, sample)
            if line is not None:
                yield _Chat(**values, line=line)
            else:
                yield _Chat(**values, refused="cut" if view.row.flags & _CUT else "not_a_chat")

    def _line(self, view: RecordView, sample: Sample) -> dict[str, Any] | None:
        assert view.body is not None
        if view.row.kind != Kind.CHAT or view.row.flags & _CUT:
            return None
        request, response = _object(view.body.request), _object(view.body.response)
        if not _has_messages(request) or not _has_choices(response):
            return None
        if sample.correction is not None:
            response = _corrected(response, sample.correction)
        return {
            "timestamp": int(sample.created_at),
            "client_id": self._client_id,
            "workload_id": sample.tags.get("workload_id", self._workload_id),
            "request": request,
            "response": response,
        }


def _lines(sample: Sample, partners: Partners) -> list[Line]:
    assert isinstance(sample, _Chat)
    return [Line(body=sample.line, arm=sample.arm if sample.correction is None else Arm.CHAMPION)]


def flywheel_config(config: DataGeneratorConfig) -> DataGeneratorConfig:
    """`config` without what belongs to other formats: votes on both sides, rehearsal lines."""
    return replace(config, format_type="chatml", include_existing_data=False)


def _refuses(sample: Sample) -> str | None:
    """`not_a_chat`, or `cut` where the captured copy is."""
    assert isinstance(sample, _Chat)
    return sample.refused


FLYWHEEL: Final = LineFormat(name="nvidia", lines=_lines, refuses=_refuses)
"""Writes the samples of a FlywheelSource, and no others."""


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _has_messages(request: Mapping[str, Any]) -> bool:
    return isinstance(request.get("messages"), list) and bool(request["messages"])


def _has_choices(response: Mapping[str, Any]) -> bool:
    choices = response.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    )


def _corrected(response: Mapping[str, Any], correction: str) -> dict[str, Any]:
    """`response` with one choice: what a person said it should have been."""
    message = {"role": "assistant", "content": correction}
    return {**response, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
