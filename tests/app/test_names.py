"""A worker asks the controller which aliases are several people's, and never waits for the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.app.alias_check import ask_names, serve_names
from proxy.errors import TemporaryError


async def known(aliases: Sequence[str]) -> frozenset[str]:
    return frozenset(alias for alias in aliases if alias.startswith("shared"))


async def test_what_is_ambiguous_is_told(tmp_path: Path) -> None:
    ask = ask_names(tmp_path / "names.sock")
    assert await ask(["shared-1"]) == frozenset(), "nobody answers yet"
    async with serve_names(tmp_path / "names.sock", known):
        asked = ["mine", "shared-1", "shared-\u00fc\n", *(f"other {n}" * 20 for n in range(1000))]
        assert await ask(asked) == {"shared-1", "shared-\u00fc\n"}
        assert await ask([]) == frozenset()
        assert (tmp_path / "names.sock").stat().st_mode & 0o777 == 0o600
    assert await ask(["shared-1"]) == frozenset(), "nor any more"


async def test_a_store_that_is_away_makes_nobody_wait(tmp_path: Path) -> None:
    held = asyncio.Event()

    async def slow(_: Sequence[str]) -> frozenset[str]:
        await held.wait()
        return frozenset()

    async def gone(_: Sequence[str]) -> frozenset[str]:
        raise TemporaryError("the store is away")

    for answer in (slow, gone):
        async with serve_names(tmp_path / "names.sock", answer):
            assert await ask_names(tmp_path / "names.sock")(["shared-1"]) == frozenset()
    held.set()


@pytest.mark.parametrize("said", [b"\n", b"{\n", b"7\n", b"", b"null\n"])
async def test_nonsense_gets_no_answer_and_stops_nothing(tmp_path: Path, said: bytes) -> None:
    async with serve_names(tmp_path / "names.sock", known):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "names.sock")
        writer.write(said)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "names.sock")
        writer.write(json.dumps(["shared-2"]).encode() + b"\n")
        assert json.loads(await reader.readline()) == ["shared-2"]
        writer.close()


async def test_without_room_for_the_socket_it_goes_on(tmp_path: Path) -> None:
    async with serve_names(tmp_path / "no such folder" / "names.sock", known):
        assert await ask_names(tmp_path / "no such folder" / "names.sock")(["shared-1"]) == frozenset()
