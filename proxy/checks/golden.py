"""The golden file: requests, and what is expected of their answers. One JSON object a line.

    {"name": "refund", "tags": ["billing"],
     "request": {"messages": [{"role": "user", "content": "May I have my money back?"}]},
     "expect": {"contains": "30 days", "regex": "(?i)refund"}}

`request` is the body of a chat completion, or `{"target": "/v1/responses", "body": {…}}` for any other path. Everything
in `expect` must hold. Mistakes are said all at once, each with file, line and field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from proxy.checks.expect import Expectation
from proxy.checks.ports import Asked
from proxy.config.model import Config
from proxy.errors import ConfigError

__all__ = ["CHAT", "GoldenFile", "Line", "golden_of", "read_golden"]

CHAT: Final = "/v1/chat/completions"
_MEMBERS: Final = ("name", "request", "expect", "tags")
_MOST_LINES: Final = 5_000
_MOST_BYTES: Final = 1 << 26
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A case."""

    number: int
    """Of the line in the file, from 1."""
    name: str
    asked: Asked
    expect: Expectation
    tags: tuple[str, ...] = ()

    @property
    def item(self) -> str:
        """Its key among a check's comparisons."""
        return f"golden:{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFile:
    """All cases, and which file that was."""

    lines: tuple[Line, ...]
    fingerprint: str
    """Of the file's bytes: another file is another check."""

    @property
    def needs_judge(self) -> bool:
        """Whether a case has a rubric."""
        return any(line.expect.rubric for line in self.lines)


def golden_of(config: Config) -> GoldenFile | None:
    """The configured golden file; None without one. Blocks: it reads a file.

    Raises ConfigError where it is wrong, or has rubrics and nobody to judge by them.
    """
    if config.checks.golden is None:
        return None
    cases = read_golden(Path(config.checks.golden))
    if cases.needs_judge and config.judge.kind == "none":
        raise ConfigError(
            f"checks.golden: {config.checks.golden} has cases with a rubric, which a judge reads; set judge.kind, or "
            "take them out"
        )
    return cases


def read_golden(path: Path) -> GoldenFile:
    """Read the file. Raises ConfigError with every mistake in it (the first twenty), or where it cannot be read."""
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"checks.golden: {path} cannot be read ({exc.strerror or exc})") from exc
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"checks.golden: {path} has more than {_MOST_BYTES >> 20} MiB; make it smaller")
    problems: list[str] = []
    lines: list[Line] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        if len(lines) == _MOST_LINES:
            problems.append(f"more than {_MOST_LINES:,} cases; make it smaller")
            break
        try:
            lines.append(_line(number, line))
        except ValueError as exc:
            problems.append(f"line {number}: {exc}")
    if not lines and not problems:
        problems.append('it has no cases; write one JSON object a line, with "request" and "expect"')
    problems += _same_names(lines)
    if problems:
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ConfigError("\n  ".join((f"checks.golden: {path}:", *problems[:_SHOWN])) + more)
    return GoldenFile(lines=tuple(lines), fingerprint=blake2b(data, digest_size=8).hexdigest())


def _same_names(lines: list[Line]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for line in lines:
        if line.name in seen:
            yield f"line {line.number}: name: {line.name!r} is that of line {seen[line.name]}, too; choose another"
        seen.setdefault(line.name, line.number)


def _line(number: int, data: bytes) -> Line:
    """A case. Raises ValueError, which begins with the field."""
    try:
        case = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"not JSON ({exc}); each line is one JSON object") from exc
    if _has_halves(case):
        raise ValueError(
            r"half a surrogate pair (\ud800 to \udfff) is no character; write both halves, or leave it out"
        )
    if not isinstance(case, dict):
        raise ValueError("not a JSON object; each line is one, with request and expect")
    for member in case:
        if member not in _MEMBERS:
            raise ValueError(f"{member}: there is no such member; a case has {', '.join(_MEMBERS)}")
    name = f"line {number}" if case.get("name") is None else case["name"]
    if not isinstance(name, str) or not name.strip():
        raise ValueError("name: not a text")
    return Line(
        number=number,
        name=name.strip(),
        asked=_asked(case.get("request")),
        expect=Expectation.of(case.get("expect")),
        tags=_tags([] if case.get("tags") is None else case["tags"]),
    )


def _has_halves(case: Any) -> bool:
    try:
        json.dumps(case, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _asked(request: Any) -> Asked:
    if not isinstance(request, dict) or not request:
        raise ValueError('request: missing; give a chat body like {"messages": […]}, or {"target": …, "body": …}')
    target: Any = CHAT
    body: Any = request
    if "target" in request or "body" in request:
        target, body = request.get("target"), request.get("body")
        if not isinstance(target, str) or not target.startswith("/"):
            raise ValueError(f'request.target: {target!r} is not a path; write it like "{CHAT}"')
        if not isinstance(body, dict):
            raise ValueError("request.body: not a JSON object")
    elif not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ValueError('request.messages: not a list of turns; for other APIs write {"target": …, "body": …}')
    data = json.dumps(body, ensure_ascii=False).encode()
    return Asked(target=target, body=data, headers={"content-type": "application/json"})


def _tags(tags: Any) -> tuple[str, ...]:
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        raise ValueError('tags: not a list of texts, like ["billing"]')
    return tuple(dict.fromkeys(tag.strip() for tag in tags))
