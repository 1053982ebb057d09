"""Made-up traffic that looks like real traffic: chat completions of about 1.4 KB with varied English text.

The sentences come from the documentation strings of Python's own library, far more text than a dictionary can learn by
heart, put together anew for every exchange: compression meets real English, and never the same answer twice. Everything
follows from the seed.
"""

from __future__ import annotations

import os
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import orjson

from policies.records import Arm, Outcome, StickySource
from proxy.store.ingest.facts import flags_of
from proxy.store.tables.columns import columns_to_insert
from proxy.store.tables.values import BodyPayload, NewRecord, NewVote, RecordFlag

__all__ = ["exchange", "exchanges", "new_id", "row_of", "sentences", "vote"]

_SYSTEM = "You are the assistant of a small hardware shop. Answer briefly, in plain English, and say so when unsure."

_LETTERS = re.compile(r"[^\W\d_]+|[ ]+")


def new_id(at_us: int, rng: random.Random) -> str:
    """A UUIDv7 of that instant, 32 hex digits."""
    tail = rng.getrandbits(74)
    return f"{at_us // 1000:012x}7{tail >> 62:03x}{0x8 | (tail >> 60) & 3:x}{tail & (1 << 60) - 1:015x}"


@cache
def sentences() -> Sequence[str]:
    """About 15,000 different English sentences, 1.4 MB, from the standard library's documentation strings."""
    library = Path(sysconfig.get_paths()["stdlib"])
    sources: list[Path] = []
    for folder, folders, files in os.walk(library):
        folders[:] = set(folders) - {"site-packages", "test"}  # not even entered: most files are there
        sources += [Path(folder, file) for file in files if file.endswith(".py")]
    texts = [topic for _, topic in sorted(topics.items())]
    for source in sorted(sources):
        texts += source.read_text(errors="ignore").split('"""')[1::2]
    found: dict[str, None] = {}
    for text in texts:
        for sentence in re.split(r"(?<=[.;:!?])\s", " ".join(text.split())):
            if 40 < len(sentence) < 240 and len(_LETTERS.sub("", sentence)) < 0.15 * len(sentence):
                found[sentence] = None
    return list(found)


def _passage(rng: random.Random) -> tuple[str, str]:
    """A question and its answer, about the same thing: neighbouring sentences."""
    pool = sentences()
    at = rng.randrange(len(pool) - 40)
    sizes = (rng.randint(60, 320), rng.randint(150, 720))
    parts: tuple[list[str], list[str]] = ([], [])
    for part, size in zip(parts, sizes, strict=True):
        while sum(map(len, part)) < size:
            part.append(pool[at])
            at += 1
    return " ".join(parts[0]), " ".join(parts[1])


def exchange(at_us: int, rng: random.Random, **changes: Any) -> NewRecord:
    """One answered chat completion; `changes` are fields of NewRecord."""
    question, answer = _passage(rng)
    messages = ({"role": "system", "content": _SYSTEM}, {"role": "user", "content": question})
    provider_id = f"chatcmpl-{rng.getrandbits(128):032x}"
    tokens = (len(question) // 4 + 30, len(answer) // 4)
    duration_us = int(rng.lognormvariate(13.6, 0.5))
    record = NewRecord(
        id=new_id(at_us, rng),
        user_hash=_user(rng),
        key_source=StickySource.HEADER,
        arm=Arm.CHAMPION,
        served_by=Arm.CHAMPION,
        model_id=1,
        config_id=1,
        kind="chat",
        status=200,
        outcome=Outcome.OK,
        duration_us=duration_us,
        upstream_us=duration_us - rng.randint(80, 400),
        ttfb_us=duration_us // rng.randint(3, 9),
        ttft_us=duration_us // 3,
        own_us=rng.randint(80, 400),
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        quality=round(rng.choice((1.0, 1.0, 1.0, 0.9, 0.8, 0.75, 0.4, 0.2)), 3),
        quality_source="heuristic",
        aliases=(provider_id,),
        body=BodyPayload(
            method="POST",
            target="/v1/chat/completions",
            request_headers={"content-type": "application/json", "user-agent": "OpenAI/Python 1.90.0"},
            response_headers={"content-type": "application/json"},
            request=_request(messages, rng),
            response=_response(provider_id, answer, at_us, tokens),
            query=question,
            response_text=answer,
            messages=messages,
        ),
    )
    assert record.body is not None
    sizes = {"request_bytes": len(record.body.request), "response_bytes": len(record.body.response)}
    return replace(record, **sizes | changes)


def exchanges(n: int, *, start_us: int, step_us: int = 100_000, seed: int = 1, **changes: Any) -> Iterator[NewRecord]:
    """`n` exchanges, one every `step_us` microseconds."""
    rng = random.Random(seed)
    for i in range(n):
        yield exchange(start_us + i * step_us, rng, **changes)


def vote(record_id: str | None, at_us: int, rng: random.Random, **changes: Any) -> NewVote:
    """One thumbs up; `changes` are fields of NewVote."""
    return replace(NewVote(fid=new_id(at_us, rng), record_id=record_id, feedback=1, created_us=at_us), **changes)


def _user(rng: random.Random) -> int:
    """Few users ask most: Zipf-like over a few thousand."""
    rank = int(rng.paretovariate(0.9)) % 5000
    return (rank * 0x9E3779B97F4A7C15 + 0x1234567) % 2**64 - 2**63


def _request(messages: Sequence[dict[str, str]], rng: random.Random) -> bytes:
    return orjson.dumps(
        {"model": "llama-3.1-8b", "messages": list(messages), "temperature": rng.choice((0.2, 0.7)), "max_tokens": 512}
    )


def _response(provider_id: str, answer: str, at_us: int, tokens: tuple[int, int]) -> bytes:
    """As vLLM answers."""
    message = {"role": "assistant", "reasoning_content": None, "content": answer, "tool_calls": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    prompt, completion = tokens
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
    return orjson.dumps(
        {
            "id": provider_id,
            "object": "chat.completion",
            "created": at_us // 1_000_000,
            "model": "llama-3.1-8b",
            "choices": [choice],
            "usage": usage | {"prompt_tokens_details": None},
            "prompt_logprobs": None,
        }
    )


def row_of(record: NewRecord, flags: RecordFlag | None = None, *, body: int | None = None) -> dict[str, Any]:
    """The row of `records` that is made of it."""
    flags = flags_of(record) if flags is None else flags
    return {name: value for name, [value] in columns_to_insert([record], [flags], [body]).items()}
