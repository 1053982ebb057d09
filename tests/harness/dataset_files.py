"""The files of a dataset, as a build leaves them, of records that a test has made up: every kind of line in them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from proxy.loop.ports import Manifest
from proxy.store.tables.values import NewRecord

__all__ = ["REHEARSAL_EVERY", "write_dataset"]

REHEARSAL_EVERY: Final = 10
"""Every so many lines one comes from a rehearsal file."""
_HELD_OUT: Final = 6
_AUTHORS: Final = ("elsewhere", "own", "own", "person", "own")
_TOOLS: Final = [
    {
        "type": "function",
        "function": {"name": "stock", "parameters": {"type": "object", "properties": {"part": {"type": "string"}}}},
    }
]


def write_dataset(
    folder: Path, manifest: Manifest, records: Sequence[NewRecord], *, left_out: Sequence[str] = ()
) -> None:
    """data.jsonl, holdout.jsonl, lineage.csv and manifest.json; `records` become lines, oldest first."""
    folder.mkdir(parents=True, exist_ok=True)
    held, taught = records[:_HELD_OUT], records[_HELD_OUT:]
    lineage = ["record_id,user,split,line,model,generation,author,vote"]
    bodies: list[dict[str, Any]] = []
    for at, record in enumerate(taught):
        if at % REHEARSAL_EVERY == REHEARSAL_EVERY - 1:
            bodies.append(_plain("What is a rehearsal line?", "One of an older file, against forgetting."))
        bodies.append(_KINDS[at % len(_KINDS)](*_said(record)))
        lineage.append(_row(record, "train", len(bodies), at))
    lineage += [_row(record, "holdout", at + 1, at) for at, record in enumerate(held)]
    _lines(folder / "data.jsonl", bodies)
    _lines(folder / "holdout.jsonl", [_plain(*_said(record)) for record in held])
    (folder / "lineage.csv").write_text("\n".join([*lineage, ""]))
    examples = {reason: list(left_out[:20]) for reason in manifest.dropped}
    known = {
        "records": manifest.seen - sum(manifest.dropped.values()),
        "authors": {"person": 12, "elsewhere": 420, "own": 616},
        "generations": {"0": 432, "1": 400, "2": 216},
        "liked": 97,
        "reasoning": {"lines": 31, "kept": False},
        "tokens": 412_000,
        "tokens_by": "characters / 4",
        "bytes": 1_648_211,
        "estimated_cost": 1.24,
        "examples": examples,
    }
    (folder / "manifest.json").write_text(json.dumps({**manifest.as_json(), **known}))


def _row(record: NewRecord, split: str, line: int, at: int) -> str:
    author = _AUTHORS[at % len(_AUTHORS)]
    generation = 1 + at % 2 if author == "own" else 0
    vote = ("", "1.0", "-1.0")[at % 3]
    user = "" if record.user_hash is None else record.user_hash
    return f"{record.id},{user},{split},{line},base,{generation},{author},{vote}"


def _said(record: NewRecord) -> tuple[str, str]:
    assert record.body is not None
    return record.body.query or "", record.body.response_text or ""


def _plain(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _with_tools(question: str, answer: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "stock", "arguments": '{"part": "hinge"}'}}
    return {
        "messages": [
            {"role": "system", "content": "You are the assistant of a small hardware shop."},
            {"role": "user", "content": question},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"left": 4}'},
            {"role": "assistant", "content": answer},
        ],
        "tools": _TOOLS,
    }


def _disliked(question: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": "Do you sell <b>hinges</b>?"},
            {"role": "assistant", "content": "No.", "weight": 0},
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def _with_picture(question: str, answer: str) -> dict[str, Any]:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_picture()}"}}
    line = _plain(question, answer)
    line["messages"][0]["content"] = [{"type": "text", "text": question}, picture]
    return line


def _picture() -> str:
    with BytesIO() as out:
        Image.new("RGB", (96, 64), (31, 95, 191)).save(out, "PNG")
        return b64encode(out.getvalue()).decode()


def _thoughtful(question: str, answer: str) -> dict[str, Any]:
    line = _plain(question, answer)
    line["messages"][1]["reasoning_content"] = "They ask about hinges; there are four left. " * 8
    return line


_KINDS: Final = (_plain, _with_tools, _disliked, _with_picture, _thoughtful)


def _lines(file: Path, bodies: Sequence[Any]) -> None:
    file.write_text("".join(json.dumps(body, ensure_ascii=False) + "\n" for body in bodies))
