"""What every client library has to see through the proxy, and what its records have to say: one suite for all of them.

A library is described by a `Caller`; a test class that derives from `Contract` and names its caller has every test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from tests.harness.model_words import FAULTS, Script, answer_to
from tests.harness.sdk import Way, asked, failed, refused

__all__ = ["Caller", "Contract"]


class Caller(ABC):
    """One client library that is pointed at one URL, and how to read what it gives back.

    A whole answer is one piece, a stream is several. It tries each call once.
    """

    kind: ClassVar[str]
    """Kind of its records."""
    errors: ClassVar[tuple[type[Exception], ...]]
    """What it raises for an answer that failed."""
    key_source: ClassVar[str] = "x-ratchet-user"
    """Where it names its user."""
    shows_headers: ClassVar[bool] = True
    """Whether its caller gets to see the record's id."""

    @abstractmethod
    def __init__(self, url: str, user: str | None = None) -> None: ...

    @abstractmethod
    def ask(self, text: str) -> Any:
        """The whole answer."""

    @abstractmethod
    def stream(self, text: str) -> Iterator[Any]:
        """The pieces of a stream; closing it leaves."""

    @abstractmethod
    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        """The whole answers to `texts`, which are asked at once."""

    @abstractmethod
    async def stream_async(self, text: str) -> list[Any]:
        """The pieces of a stream."""

    def close(self) -> None:  # noqa: B027 - some have nothing to close
        """Close its connections."""

    @abstractmethod
    def said(self, piece: Any) -> str:
        """The text in a piece."""

    @abstractmethod
    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        """Name and arguments of each tool call."""

    @abstractmethod
    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        """Tokens of the prompt and of the answer."""

    def record_id(self, pieces: Sequence[Any]) -> str | None:
        """The record's id, as the library shows it."""
        return None

    def plain(self, piece: Any) -> Any:
        """What of a piece must not differ: all but what the proxy is meant to add."""
        return piece

    def complaint(self, error: Exception) -> str:
        """As `plain`, of an error."""
        return str(error)

    def words(self, pieces: Iterable[Any]) -> str:
        """The text of all `pieces`."""
        return "".join(map(self.said, pieces))


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a client got of one call: equal to what another got where their callers would see no difference."""

    caller: Caller = field(compare=False)
    pieces: list[Any] = field(compare=False)
    plain: list[Any]
    error: str | None

    @property
    def said(self) -> str:
        return self.caller.words(self.pieces)


Call = Callable[[Caller], Iterable[Any]]
Same = Callable[[Call], Heard]


def _hear(caller: Caller, call: Call) -> Heard:
    pieces: list[Any] = []
    error = None
    try:
        for piece in call(caller):
            pieces.append(piece)
    except caller.errors as exc:
        error = f"{type(exc).__name__}: {caller.complaint(exc)}"
    return Heard(caller=caller, pieces=pieces, plain=[*map(caller.plain, pieces)], error=error)


def _plainly(text: str) -> Call:
    return lambda caller: [caller.ask(text)]


def _streaming(text: str) -> Call:
    return lambda caller: caller.stream(text)


HOW = pytest.mark.parametrize("how", [_plainly, _streaming])


class Contract:
    """The tests; a module that has a subclass has a `way`, too."""

    caller: ClassVar[type[Caller]]

    @pytest.fixture(scope="class")
    @classmethod
    def same(cls, way: Way) -> Iterator[Same]:
        """Asks directly and through the proxy, asserts that the client sees no difference, and gives what it saw."""
        callers = [cls.caller(url) for url in way.urls]

        def ask(call: Call) -> Heard:
            direct, proxied = (_hear(caller, call) for caller in callers)
            assert proxied == direct
            return proxied

        yield ask
        for caller in callers:
            caller.close()

    def text(self, words: str) -> str:
        """A question that no other class asks."""
        return f"{self.caller.__name__} {words}"

    @HOW
    @pytest.mark.parametrize("words", ["answers", "ponders", "forecast", "forecasts"])
    def test_what_it_sees_is_what_is_recorded(
        self, way: Way, same: Same, how: Callable[[str], Call], words: str
    ) -> None:
        text = self.text(f"{words} {how.__name__}")
        script, heard = Script(text), same(how(text))
        assert (heard.error, heard.said) == (None, script.said)
        assert heard.caller.calls(heard.pieces) == [(call.name, call.arguments) for call in script.calls]
        assert heard.caller.tokens(heard.pieces) == (script.prompt_tokens, script.completion_tokens)
        [row] = way.records(text=text)
        asked(row, text, self.caller.kind)
        assert ("streamed" in row["flags"]) is (how is _streaming)
        assert heard.caller.record_id(heard.pieces) == (row["record_id"] if self.caller.shows_headers else None)

    @HOW
    def test_its_user_is_the_records_user(self, way: Way, how: Callable[[str], Call]) -> None:
        user, text = self.text(f"user {how.__name__}"), self.text(f"of a user {how.__name__}")
        caller = self.caller(way.proxied, user)
        assert _hear(caller, how(text)).said == answer_to(text)
        caller.close()
        [row] = way.records(user=user)
        assert row["key_source"] == self.caller.key_source
        asked(row, text, self.caller.kind)

    @HOW
    def test_an_error_inside_a_200_is_a_failure(self, way: Way, same: Same, how: Callable[[str], Call]) -> None:
        text = self.text(f"breakdown {how.__name__}")
        heard = same(how(text))
        assert len(heard.said) < len(answer_to(text))
        [row] = way.records(text=text)
        failed(row, text, self.caller.kind, "upstream_error", heard.said)

    def test_a_stream_that_ends_early_is_incomplete(self, way: Way, same: Same) -> None:
        text = self.text("halfway")
        heard = same(_streaming(text))
        assert 0 < len(heard.said) < len(answer_to(text))
        [row] = way.records(text=text)
        failed(row, text, self.caller.kind, "incomplete", heard.said)

    def test_a_stream_that_its_reader_leaves(self, way: Way) -> None:
        text = self.text("endless")
        caller = self.caller(way.proxied)
        pieces = caller.stream(text)
        said = ""
        while not said:
            said += caller.said(next(pieces))
        pieces.close()  # type: ignore[attr-defined]
        caller.close()
        [row] = way.records(text=text)
        assert row["outcome"] == "client_disconnect"
        assert row["response"].startswith(said)
        failed(row, text, self.caller.kind, "client_disconnect", row["response"])

    @pytest.mark.parametrize(("how", "word"), [*((_plainly, word) for word in FAULTS), (_streaming, "overflow")])
    def test_http_errors_are_the_servers_own(self, way: Way, same: Same, how: Callable[[str], Call], word: str) -> None:
        text = self.text(f"{word} {how.__name__}")
        heard = same(how(text))
        assert (heard.pieces, bool(heard.error)) == ([], True)
        [row] = way.records(text=text)
        refused(row, text, FAULTS[word])

    async def test_many_at_once(self, way: Way) -> None:
        texts = [self.text(f"concurrent {number}.") for number in range(10)]
        caller = self.caller(way.proxied)
        found = await caller.ask_async(texts)
        assert [caller.words([answer]) for answer in found] == [*map(answer_to, texts)]
        caller.close()
        for row in await way.records_async(10, text=self.text("concurrent")):
            texts.remove(row["query"])
            asked(row, row["query"], self.caller.kind)

    async def test_a_stream_asynchronously(self, way: Way) -> None:
        text = self.text("in an event loop")
        caller = self.caller(way.proxied)
        assert caller.words(await caller.stream_async(text)) == answer_to(text)
        caller.close()
        [row] = await way.records_async(text=text)
        asked(row, text, self.caller.kind)
