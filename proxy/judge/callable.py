"""A Python function as a judge: `judge.callable = "package.module:function"`, in a process of its own (`child`).

It gets a list of records, each a dictionary with `messages` and `answer` (chat messages), `text` (the answer's words),
`tools` and `rubric`, and returns a score from 0 to 1 for each, or None. A pair is decided by the scores of its two
answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from proxy.config.judge import JudgeConfig
from proxy.errors import ConfigError
from proxy.judge.child import LENGTH
from proxy.judge.ports import Choice, Failure, JudgeItem, Judgement, JudgePair, PairJudgement
from proxy.judge.replies import rubric_hash
from proxy.private import without_secrets
from proxy.tasks import spawn

__all__ = ["CallableJudge"]

_LONGEST_REASON: Final = 300
_START_S: Final = 60.0
"""Of a process's first call, on top: importing a model's library takes its time."""
_PACKAGES: Final = str(Path(__file__).resolve().parents[2])
_BOOTSTRAP: Final = (
    "import sys; sys.path[:0] = [{root!r}]; sys.path.append({here!r}); "
    "from proxy.judge.child import main; sys.exit(main({target!r}))"
)


class CallableJudge:
    """Calls the function, some records at a time, one call after the other."""

    at_once: Final = 16

    def __init__(self, config: JudgeConfig) -> None:
        """Raises ConfigError without a function; it is imported only in its process."""
        if not config.callable:
            raise ConfigError("judge.callable: not set, although judge.kind is callable")
        self._target = config.callable
        self._rubric = config.rubric or ""
        self._timeout_s = config.timeout_seconds
        self._line: _Line | None = None
        self._turn = asyncio.Lock()
        self.scorer: Final = f"callable:{config.callable}:{rubric_hash(config.callable, self._rubric, config.version)}"

    async def score(self, items: Sequence[JudgeItem]) -> Sequence[Judgement]:
        """See `Judge`."""
        found: list[Judgement] = []
        for at in range(0, len(items), self.at_once):
            some = [_record(item, self._rubric) for item in items[at : at + self.at_once]]
            async with self._turn:
                found += await self._call(some)
        return found

    async def prefer(self, pairs: Sequence[JudgePair]) -> Sequence[PairJudgement]:
        """See `Judge`; the order does not matter to a function that sees one answer at a time."""
        items = [
            JudgeItem(messages=pair.messages, answer=answer, tools=pair.tools, rubric=pair.rubric)
            for pair in pairs
            for answer in (pair.first, pair.second)
        ]
        scores = await self.score(items)
        return [_compared(first, second) for first, second in zip(scores[::2], scores[1::2], strict=True)]

    async def close(self) -> None:
        """End the process."""
        line, self._line = self._line, None
        if line is not None:
            await line.end()

    async def _call(self, records: list[dict[str, Any]]) -> list[Judgement]:
        limit_s = self._timeout_s + (_START_S if self._line is None else 0.0)
        try:
            async with asyncio.timeout(limit_s):
                self._line = line = self._line or await _Line.open(self._target)
                answer = await line.ask(records)
        except TimeoutError:
            await self.close()
            return _failed(records, Failure.TIMEOUT, f"{self._target} took more than {limit_s:g} s")
        except (OSError, EOFError, ValueError) as exc:
            await self.close()
            return _failed(records, Failure.FAILED, f"the process of {self._target} ended: {exc}")
        except BaseException:  # cancelled in the middle: the next answer on this line would be this call's
            await self.close()
            raise
        if "error" in answer:
            return _failed(records, Failure.FAILED, str(answer["error"]))
        return [_judgement(score, reason) for score, reason in answer["scores"]]


class _Line:
    """The process, and the socket to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, target: str) -> _Line:
        """Start it. Raises OSError."""
        ours, theirs = socket.socketpair()
        starting = spawn(asyncio.to_thread(_start, theirs, target), name="start the judge's process")
        try:
            process = await asyncio.shield(starting)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()  # it ends when its input does
            await asyncio.wait([spawn(_gone(starting), name="end the judge's process")])
            raise
        return cls(process, reader, writer)

    async def ask(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """One call. Raises OSError, EOFError or ValueError where the process ends or writes nonsense."""
        text = json.dumps(records).encode()
        self._writer.write(LENGTH.pack(len(text)) + text)
        await self._writer.drain()
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        answer: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        return answer

    async def end(self) -> None:
        """Whatever it does, it ends."""
        self._writer.transport.abort()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)


def _start(line: socket.socket, target: str) -> subprocess.Popen[bytes]:
    """Its environment has no secret of ours: it runs what a user wrote."""
    code = _BOOTSTRAP.format(root=_PACKAGES, here=str(Path.cwd()), target=target)
    with line:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, "ratchet-judge"], stdin=line.fileno(), env=without_secrets(os.environ)
        )


async def _gone(starting: asyncio.Task[subprocess.Popen[bytes]]) -> None:
    """End what was being started when nobody waited for it any more."""
    with contextlib.suppress(OSError):
        process = await starting
        process.kill()
        await asyncio.to_thread(process.wait)


def _record(item: JudgeItem, rubric: str) -> dict[str, Any]:
    content = item.answer.get("content")
    return {
        "messages": list(item.messages),
        "answer": dict(item.answer),
        "text": content if isinstance(content, str) else "",
        "tools": list(item.tools),
        "rubric": item.rubric or rubric,
    }


def _failed(records: list[dict[str, Any]], failure: Failure, reason: str) -> list[Judgement]:
    return [Judgement(reason=reason[:_LONGEST_REASON], failure=failure)] * len(records)


def _judgement(score: float | None, reason: str) -> Judgement:
    failure = Failure.UNREADABLE if score is None else None
    return Judgement(score=score, reason=" ".join(reason.split())[:_LONGEST_REASON], failure=failure)


def _compared(first: Judgement, second: Judgement) -> PairJudgement:
    if first.score is None or second.score is None:
        lacking = first if first.score is None else second
        return PairJudgement(reason=lacking.reason, failure=lacking.failure)
    choice = Choice.TIE
    if first.score != second.score:
        choice = Choice.FIRST if first.score > second.score else Choice.SECOND
    return PairJudgement(straight=choice, turned=choice, reason=first.reason)
