"""A language model behind an OpenAI-style endpoint as a judge: one question an answer, two a pair.

What it says is read by `replies`. Where it is busy, silent or broken the question is asked again, after a wait that
doubles or that it names itself; what it declines (4xx) would be declined again.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import aiohttp

from proxy.config.judge import JudgeConfig
from proxy.errors import ConfigError
from proxy.judge.ports import Choice, Failure, JudgeItem, Judgement, JudgePair, PairJudgement
from proxy.judge.replies import RUBRIC, item_messages, pair_messages, read_choice, read_score, rubric_hash
from proxy.version import __version__
from proxy.wire.retry_after import retry_after_s

__all__ = ["OpenAIJudge"]

_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 60.0
_MOST_BYTES: Final = 4 << 20
"""Of an answer that are read: a verdict is short."""
_EXCERPT: Final = 200
_BUSY: Final = frozenset((429, 503, 529))
_AGAIN: Final = frozenset((408, 409, 425))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Reply:
    """What became of one question."""

    text: str = ""
    tokens: int = 0
    failure: Failure | None = None
    wait_s: float | None = None
    """When to ask again, where it says so."""
    final: bool = False
    """Whether another attempt would be in vain."""


class OpenAIJudge:
    """Asks over HTTP, on a few connections that it keeps."""

    at_once: Final = 1

    def __init__(self, config: JudgeConfig, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: whom to trust beside the system's authorities. Raises ConfigError without a url or a model."""
        self._tls = tls
        if not config.url or not config.model:
            missing = "url" if not config.url else "model"
            raise ConfigError(f"judge.{missing}: not set, although judge.kind is openai")
        self._url = f"{config.url.rstrip('/')}/chat/completions"
        self._rubric = config.rubric or RUBRIC
        self._body = {"model": config.model, **{name: _member(text) for name, text in config.options.items()}}
        self._headers = {"User-Agent": f"ratchet/{__version__}"}
        if config.api_key is not None:
            self._headers["Authorization"] = f"Bearer {config.api_key}"
        self._timeout_s, self._attempts = config.timeout_seconds, config.attempts
        self._turns = asyncio.Semaphore(config.concurrency)
        self._session: aiohttp.ClientSession | None = None
        said = rubric_hash(json.dumps(self._body, sort_keys=True), self._rubric, config.version)
        self.scorer: Final = f"openai:{config.model}:{said}"

    async def score(self, items: Sequence[JudgeItem]) -> Sequence[Judgement]:
        """See `Judge`."""
        return await asyncio.gather(*map(self._score, items))

    async def prefer(self, pairs: Sequence[JudgePair]) -> Sequence[PairJudgement]:
        """See `Judge`."""
        return await asyncio.gather(*map(self._prefer, pairs))

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _score(self, item: JudgeItem) -> Judgement:
        reply = await self._ask(item_messages(item, self._rubric))
        verdict, failure, reason = _read(reply, read_score)
        if verdict is None:
            return Judgement(reason=reason, tokens=reply.tokens, failure=failure)
        return Judgement(score=verdict, reason=reason, tokens=reply.tokens)

    async def _prefer(self, pair: JudgePair) -> PairJudgement:
        straight, turned = await asyncio.gather(self._choose(pair, turned=False), self._choose(pair, turned=True))
        return PairJudgement(
            straight=straight.choice,
            turned=turned.choice,
            reason=straight.reason or turned.reason,
            tokens=straight.tokens + turned.tokens,
            failure=straight.failure or turned.failure,
        )

    async def _choose(self, pair: JudgePair, *, turned: bool) -> _Chosen:
        reply = await self._ask(pair_messages(pair, self._rubric, turned=turned))
        choice, failure, reason = _read(reply, lambda text: read_choice(text, turned=turned))
        return _Chosen(choice, reason, reply.tokens, failure)

    async def _ask(self, messages: list[dict[str, str]]) -> _Reply:
        """One question, asked until there is an answer or the attempts are used up."""
        async with self._turns:
            wait_s, tokens = _FIRST_WAIT_S, 0
            for attempt in range(1, self._attempts + 1):
                reply = await self._once(messages)
                tokens += reply.tokens
                if reply.failure is None or reply.final or attempt == self._attempts:
                    break
                await asyncio.sleep(min(_LONGEST_WAIT_S, wait_s if reply.wait_s is None else reply.wait_s))
                wait_s *= 2
        return _Reply(reply.text, tokens, reply.failure)

    async def _once(self, messages: list[dict[str, str]]) -> _Reply:
        body = json.dumps({**self._body, "messages": messages}).encode()
        try:
            async with asyncio.timeout(self._timeout_s):
                session = self._open()
                async with session.post(
                    self._url, data=body, headers={"Content-Type": "application/json"}, allow_redirects=False
                ) as response:
                    content = await _all(response)
                    reply = _reply(response.status, response.headers, content)
                    # no token is less than a byte: a judge that errs here would end checks, and use up the day's budget
                    return replace(reply, tokens=min(reply.tokens, len(body) + len(content)))
        except TimeoutError:
            return _Reply(f"no answer within {self._timeout_s:g} s", failure=Failure.TIMEOUT)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            return _Reply(f"{self._url}: {str(exc) or type(exc).__name__}"[:_EXCERPT], failure=Failure.UNREACHABLE)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls or True)
            timeout = aiohttp.ClientTimeout(total=None)
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout, connector=connector)
        return self._session


@dataclass(frozen=True, slots=True)
class _Chosen:
    choice: Choice | None
    reason: str
    tokens: int
    failure: Failure | None


def _read(reply: _Reply, read: Callable[[str], tuple[T, str] | None]) -> tuple[T | None, Failure | None, str]:
    """Verdict, failure, and the judge's reason or what went wrong."""
    if reply.failure is not None:
        return None, reply.failure, reply.text
    found = read(reply.text)
    if found is None:
        return None, Failure.UNREADABLE, f"no verdict in: {' '.join(reply.text.split())[:_EXCERPT]}"
    return found[0], None, found[1]


async def _all(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises ValueError where it is too long to be a verdict."""
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > _MOST_BYTES:
            raise ValueError(f"an answer of more than {_MOST_BYTES} bytes is no verdict")
    return bytes(content)


def _reply(status: int, headers: Mapping[str, str], content: bytes) -> _Reply:
    if status == 200:
        return _said(content)
    words = f"HTTP {status}: {' '.join(content.decode('utf-8', 'replace').split())[:_EXCERPT]}"
    if status in _BUSY:
        return _Reply(words, failure=Failure.BUSY, wait_s=retry_after_s(headers))
    if status >= 500 or status in _AGAIN:
        return _Reply(words, failure=Failure.UNREACHABLE, wait_s=retry_after_s(headers))
    return _Reply(words, failure=Failure.REFUSED, final=True)


def _said(content: bytes) -> _Reply:
    """Words and tokens of a chat completion."""
    try:
        document: Any = json.loads(content)
        message = document["choices"][0]["message"]
        text = message.get("content") or ""
        words = text if isinstance(text, str) else "".join(str(part.get("text") or "") for part in text)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        shown = " ".join(content.decode("utf-8", "replace").split())[:_EXCERPT]
        return _Reply(f"no chat completion: {shown}", failure=Failure.UNREADABLE, final=True)
    return _Reply(words, _tokens(document.get("usage")))


def _tokens(usage: Any) -> int:
    """All tokens of a request; 0 where nobody says."""
    if not isinstance(usage, Mapping):
        return 0
    total = usage.get("total_tokens")
    if not isinstance(total, int):
        parts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        total = sum(part for part in parts if isinstance(part, int))
    return max(0, min(int(total), 1 << 30))


def _member(text: str) -> Any:
    """A value of `options`: JSON where it is any, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
