"""An SDK's view of Ratchet: one model server, reachable directly and through the proxy, and records of the calls.

The assertions say what a record has to hold, given what the client asked and saw.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from proxy.cli.app import app
from tests.harness.model_server import create_model_server
from tests.harness.model_words import Script
from tests.harness.serve import RatchetProcess, await_true
from tests.harness.webserver import serving_in_thread

__all__ = ["Way", "asked", "called", "failed", "refused", "two_ways"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The model server's own URL and the proxy's: all that a client has to change."""

    direct: str
    proxied: str
    ratchet: RatchetProcess

    @property
    def urls(self) -> tuple[str, str]:
        """Directly first, then through the proxy."""
        return self.direct, self.proxied

    def records(self, count: int = 1, **filters: str) -> list[dict[str, Any]]:
        """What `ratchet records list --json` shows for these filters, once it is `count` records; newest first."""
        options = [part for name, value in filters.items() for part in (f"--{name.replace('_', '-')}", value)]
        argv = ["records", "list", "--json", "--limit", "1000", "--config", str(self.ratchet.config_file), *options]

        def look() -> list[dict[str, Any]] | None:
            result = CliRunner().invoke(app, argv)
            assert result.exit_code == 0, result.output
            rows: list[dict[str, Any]] = json.loads(result.stdout)
            assert len(rows) <= count, rows
            return rows if len(rows) == count else None

        found: list[dict[str, Any]] = await_true(look, f"{count} records with {filters}")
        return found

    async def records_async(self, count: int = 1, **filters: str) -> list[dict[str, Any]]:
        """As `records`, from a test that has an event loop of its own."""
        return await asyncio.to_thread(lambda: self.records(count, **filters))


@contextmanager
def two_ways(directory: Path) -> Iterator[Way]:
    """Start the model server and Ratchet in front of it."""
    with serving_in_thread(create_model_server()) as url, RatchetProcess(directory, champion=url) as ratchet:
        ratchet.await_admin()
        yield Way(direct=url, proxied=ratchet.base_url, ratchet=ratchet)


def called(name: str, arguments: Any) -> str:
    """A tool call as the text of a record has it."""
    call = json.dumps({"name": name, "arguments": arguments}, separators=(",", ":"), ensure_ascii=False)
    return f"<tool_call>{call}</tool_call>"


def asked(row: dict[str, Any], text: str, kind: str) -> None:
    """Assert that `row` is the record of a model's whole answer to `text`, with its tokens and timing."""
    script = Script(text)
    said = script.said or "\n".join(called(call.name, call.arguments) for call in script.calls)
    assert (row["kind"], row["query"], row["response"]) == (kind, text, said)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (script.prompt_tokens, script.completion_tokens)
    assert (row["status"], row["outcome"], row["arm"]) == (200, "ok", "champion")
    assert 0 < row["ttfb_ms"] <= row["ttft_ms"] <= row["duration_ms"]
    assert row["quality"] is not None


def failed(row: dict[str, Any], text: str, kind: str, outcome: str, said: str) -> None:
    """Assert that `row` is the record of an answer to `text` that began well, went as far as `said`, and failed."""
    assert (row["kind"], row["query"], row["status"]) == (kind, text, 200)
    assert (row["outcome"], row["response"] or "") == (outcome, said)
    assert 0 < row["ttfb_ms"] <= row["duration_ms"]
    assert not said or row["ttfb_ms"] <= row["ttft_ms"] <= row["duration_ms"]
    assert row["quality"] is None or row["quality"] < 1
    assert "sample" not in row["flags"]


def refused(row: dict[str, Any], text: str, status: int) -> None:
    """Assert that `row` is the record of an HTTP error in place of an answer to `text`: a refusal is not a failure."""
    outcome = "refused" if status < 500 else "upstream_error"
    assert (row["query"], row["status"], row["outcome"]) == (text, status, outcome)
    assert (row["response"], row["quality"]) == (None, None)
    assert "sample" not in row["flags"]
