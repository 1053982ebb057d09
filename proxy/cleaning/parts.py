"""What there is to clean in an exchange or a vote, in parts that succeed or fail by themselves, and how each is done.

A part is named, has facts (JSON) and a body; what becomes of it is again facts and a body. So it can be done here or in
another process. A part that could not be cleaned says `lost`, and nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from proxy.wire.arrival import arrival_us
from proxy.wire.headers import charset
from proxy.wire.redact import FAILED, NOT_RECORDED, Redactor

__all__ = ["Part", "Result", "head_of", "lost", "perform", "quickly", "request_of", "response_of", "texts_of"]

Name = Literal["head", "request", "response", "texts"]
_UTF8: Final = "utf-8"


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to clean."""

    name: Name
    facts: Mapping[str, Any]
    body: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        texts = self.facts.get("texts", ())
        return 500 + len(self.body) + sum(map(len, texts))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a part."""

    facts: Mapping[str, Any]
    body: bytes = b""


def head_of(meta: Mapping[str, Any]) -> Part:
    """Method, target and headers of an exchange, by the facts of its record."""
    asked, answered = meta["rh"], meta["sh"]
    names = [["rh", name] for name in asked] + [["sh", name] for name in answered]
    return Part("head", {"names": names, "texts": [meta["m"], meta["p"], *asked.values(), *answered.values()]})


def request_of(meta: Mapping[str, Any], body: bytes) -> Part:
    """The captured request."""
    headers = meta["rh"]
    return Part("request", _kind_of(headers) | {"cut": "rsha" in meta}, body)


def response_of(meta: Mapping[str, Any], body: bytes) -> Part:
    """The captured response, and when its pieces came."""
    facts = {"cut": "ssha" in meta, "mk": meta.get("mk", ()), "ttfb": meta["ttfb"]}
    return Part("response", _kind_of(meta["sh"]) | facts, body)


def texts_of(texts: list[str]) -> Part:
    """Short texts, such as a vote's."""
    return Part("texts", {"texts": texts})


def _kind_of(headers: Mapping[str, str]) -> dict[str, str]:
    return {"type": headers.get("content-type", ""), "encoding": headers.get("content-encoding", "")}


def quickly(redactor: Redactor, part: Part) -> Result | None:
    """The result where it takes a fraction of a millisecond; None otherwise."""
    if part.name in ("head", "texts"):
        texts = part.facts["texts"]
        if not redactor.quick_texts(texts):
            return None
        if not redactor.clear(texts):
            return perform(redactor, part)
        return Result({"texts": texts} if part.name == "texts" else _with_headers(part.facts["names"], texts))
    facts = part.facts
    body = redactor.quick(part.body, facts["type"], facts["encoding"], cut=facts["cut"])
    return None if body is None else _body(body, {}, redactor)


def perform(redactor: Redactor, part: Part) -> Result:
    """The result, however long it takes."""
    facts = part.facts
    if part.name == "texts":
        texts = [redactor.clean_text(text) for text in facts["texts"]]
        return Result({"lost": True, "why": redactor.trouble}) if FAILED in texts else Result({"texts": texts})
    if part.name == "head":
        method, target, *values = facts["texts"]
        cleaned = [redactor.clean_text(method), redactor.clean_target(target), *map(redactor.clean_text, values)]
        return Result(_with_headers(facts["names"], cleaned))
    kind, encoding = facts["type"], facts["encoding"]
    body, stream = redactor.clean_answer(part.body, kind, encoding, cut=facts["cut"])
    if part.name == "request" or stream is None:
        return _body(body, {}, redactor)
    said: dict[str, Any] = {
        "sf": {"failed": stream.error is not None, "whole": stream.whole, "unread": stream.unread},
    }
    if stream.first_content is not None:
        marks = [(offset, at) for offset, at in facts["mk"]]
        said["ttft"] = arrival_us(stream.first_content, marks, facts["ttfb"], part.body, encoding or None)
    return _body(body, said, redactor)


def lost(part: Part, words: str = NOT_RECORDED) -> Result:
    """What is kept of a part that was not cleaned."""
    if part.name == "head":
        return Result({"m": "", "p": words, "rh": {}, "sh": {}, "lost": True})
    return Result({"lost": True}, words.encode() if part.body else b"")


def _body(body: bytes, facts: dict[str, Any], redactor: Redactor) -> Result:
    if body == FAILED.encode():
        facts |= {"lost": True, "why": redactor.trouble}
    return Result(facts, body)


def _with_headers(names: list[list[str]], cleaned: list[str]) -> dict[str, Any]:
    method, target, *values = cleaned
    facts: dict[str, Any] = {"m": method, "p": target, "rh": {}, "sh": {}}
    for (side, name), value in zip(names, values, strict=True):
        if name == "content-encoding":
            continue  # undone
        if name == "content-type" and (charset(value) or _UTF8) != _UTF8:
            value = f"{value.partition(';')[0]}; charset={_UTF8}"  # what is kept of the body is
        facts[side][name] = value
    return facts
