"""Orders to the loop and questions about it: through a server, and through the store where none runs."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner, Result

from policies.cuped import PastSaving
from proxy.cli.app import app
from proxy.cli.http import Server
from proxy.credentials import Credential
from proxy.errors import TemporaryError
from proxy.loop.look.explain import explain, history
from proxy.store.store import Store
from proxy.store.tables.control import CommandRow, CommandState, LoopTransaction
from proxy.web.admin import AdminServices, create_admin_app
from tests.harness.install import Install
from tests.harness.webserver import serving_in_thread


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path / "data")


def ratchet(install: Install, *args: str) -> Result:
    return CliRunner().invoke(app, [*args, "--data-dir", str(install.root)], env={"COLUMNS": "200"})


class Controller:
    """An admin port whose loop answers every order at once with `state` and `detail`; PENDING leaves it waiting."""

    def __init__(self, install: Install, state: CommandState, detail: str | None = None) -> None:
        self.install = install
        self.state = state
        self.detail = detail
        self.store: Store | None = None
        self.past_saving: PastSaving | None = None

    async def opened(self) -> Store:
        self.store = self.store or await self.install.open_store()
        self.store.past_savings.known = self.past_saving
        return self.store

    def at_hand(self) -> Store | None:
        return self.store

    async def close(self) -> None:
        if self.store is not None:
            await self.store.close()

    def serving(self) -> contextlib.AbstractContextManager[str]:
        return serving_in_thread(self.app(), self.close)

    async def submit(self, verb: str, args: Mapping[str, Any], who: str, why: str, key: Any) -> int:
        store = await self.opened()
        command = await store.commands.submit(verb, who=who, why=why, args=args, key=key)
        if self.state is not CommandState.PENDING:
            lease = await store.leases.acquire("loop", "test", ttl_s=60)
            assert lease is not None
            settled = replace(command, state=self.state, detail=self.detail)
            await store.journal.transition(LoopTransaction(fence=lease.fence, commands=(settled,)))
        return command.id

    def app(self) -> Starlette:
        async def status() -> Mapping[str, Any]:
            return {}

        async def explained(at: float | None) -> Mapping[str, Any]:
            return await explain(await self.opened(), at)

        async def listed(limit: int, before: float | None) -> list[Mapping[str, Any]]:
            return [*await history(await self.opened(), limit, before)]

        return create_admin_app(
            AdminServices(
                config=self.install.config,
                clock=self.install.clock,
                keys=self.install.keys,
                metrics=lambda accept: (b"", "text/plain"),
                status=status,
                health=lambda: {"status": "ok"},
                store=self.at_hand,
                submit=self.submit,
                explain=explained,
                history=listed,
            )
        )


def commands(install: Install) -> list[CommandRow]:
    async def read() -> list[CommandRow]:
        store = await install.open_store()
        try:
            return [command for n in range(1, 9) if (command := await store.commands.get(n)) is not None]
        finally:
            await store.close()

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("line", "verb", "args"),
    [
        (["trigger"], "trigger", {}),
        (["trigger", "--no-train"], "trigger", {"no_train": True}),
        (["share", "0.25"], "share", {"share": 0.25}),
        (["promote"], "promote", {}),
        (["rollback"], "rollback", {}),
        (["pause"], "pause", {}),
        (["resume"], "resume", {}),
        (["cancel"], "cancel", {}),
        (["deploy", "run-1"], "deploy", {"run": "run-1"}),
        (["deploy", "/srv/models/a"], "deploy", {"path": "/srv/models/a"}),
        (["deploy", "./a.gguf"], "deploy", {"path": str(Path("a.gguf").absolute())}),
        (["deploy", "hf://org/name"], "deploy", {"path": "hf://org/name"}),
        (["proceed"], "proceed", {}),
    ],
)
def test_an_order_reaches_the_loop_with_who_and_why(
    install: Install, line: list[str], verb: str, args: dict[str, Any]
) -> None:
    with Controller(install, CommandState.DONE, "as you wish").serving() as url:
        result = ratchet(install, *line, "--why", "a reason", "--who", "ann", "--admin-url", url)
    assert (result.exit_code, "as you wish" in result.output) == (0, True), result.output
    [command] = commands(install)
    assert (command.verb, command.args, command.who, command.why) == (verb, args, "ann", "a reason")


def test_a_refused_order_fails_with_the_loops_reason(install: Install) -> None:
    with Controller(install, CommandState.REFUSED, "there is no challenger").serving() as url:
        result = ratchet(install, "promote", "--why", "now", "--admin-url", url)
    assert (result.exit_code, "there is no challenger" in result.output) == (1, True)


def test_an_order_that_is_not_answered_in_time_is_said_to_wait(install: Install) -> None:
    with Controller(install, CommandState.PENDING).serving() as url:
        result = ratchet(install, "pause", "--why", "now", "--wait", "0", "--admin-url", url)
    assert (result.exit_code, "has not answered yet (`ratchet history`)" in result.output) == (0, True)


def test_an_order_needs_a_reason(install: Install) -> None:
    assert ratchet(install, "pause").exit_code == 2
    assert ratchet(install, "pause", "--why", " ").exit_code == 2


def test_without_a_server_the_order_waits_in_the_store(install: Install) -> None:
    asyncio.run(install.fill([]))
    (install.root / "run").mkdir()
    (install.root / "run" / "addresses.json").write_text('{"admin": "http://127.0.0.1:1"}')
    result = ratchet(install, "trigger", "--no-train", "--why", "tonight", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["state"] == "pending"
    assert [(command.verb, command.args) for command in commands(install)] == [("trigger", {"no_train": True})]


def test_an_order_that_was_taken_is_not_given_again_where_the_server_goes_away(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: Server, path: str) -> Any:
        raise ConnectionResetError("the server has gone")

    monkeypatch.setattr(Server, "get", gone)
    (install.root / "run").mkdir(parents=True)
    with Controller(install, CommandState.PENDING).serving() as url:
        (install.root / "run" / "addresses.json").write_text(json.dumps({"admin": url}))
        result = ratchet(install, "trigger", "--why", "tonight")
    assert (result.exit_code, "trigger is queued as command 1" in result.output) == (4, True), result.output
    assert len(commands(install)) == 1


def test_a_named_server_that_does_not_answer_is_an_error_not_a_detour(install: Install) -> None:
    asyncio.run(install.fill([]))
    result = ratchet(install, "trigger", "--why", "x", "--admin-url", "http://127.0.0.1:1")
    assert result.exit_code == 4
    assert commands(install) == []


REWRITE = {"system": {"replace": "Be brief."}, "parameters": {"temperature": 0.2}}


def keys_in(install: Install) -> list[Any]:
    async def read() -> list[Any]:
        store = await install.open_store()
        try:
            return list((await store.credentials.all()).values())
        finally:
            await store.close()

    return asyncio.run(read())


@pytest.mark.parametrize("through_server", [True, False])
def test_a_challenger_is_brought_with_its_key_apart(install: Install, tmp_path: Path, through_server: bool) -> None:
    (tmp_path / "key").write_text("sk-secret\n")
    (tmp_path / "rewrite.json").write_text(json.dumps(REWRITE))
    url = "https://models.example.net/a"
    line = ["challenge", url, "--model", "big", "--name", "big-1", "--api-key-file", str(tmp_path / "key"),
            "--api-key-header", "x-api-key", "--rewrite", str(tmp_path / "rewrite.json"), "--why", "it is new",
            "--who", "ann"]  # fmt: skip
    asyncio.run(install.fill([]))
    if through_server:
        controller = Controller(install, CommandState.DONE, "as you wish")
        with controller.serving() as admin_url:
            assert ratchet(install, "pause", "--why", "x", "--admin-url", admin_url).exit_code == 0  # it has its store
            result = ratchet(install, *line, "--admin-url", admin_url)
    else:
        (install.root / "run").mkdir()
        (install.root / "run" / "addresses.json").write_text('{"admin": "http://127.0.0.1:1"}')
        result = ratchet(install, *line)
    assert result.exit_code == 0, result.output
    command = commands(install)[-1]
    credential = command.args["credential"]
    rewrite = json.loads(command.args["rewrite"])
    assert {**command.args, "rewrite": rewrite} == {
        "url": url, "model": "big", "name": "big-1", "credential": credential, "rewrite": REWRITE,
    }  # fmt: skip
    assert (command.verb, command.who, command.why) == ("challenge", "ann", "it is new")
    assert keys_in(install) == [Credential.of(url, "sk-secret", "x-api-key")]
    assert "sk-secret" not in result.output + repr(command)


@pytest.mark.parametrize(
    ("args", "files", "said"),
    [
        ([], {}, "url: name an endpoint, a model, or a rewrite"),
        (["http://x", "--api-key-file", "/dev/null"], {}, "--api-key-file: /dev/null is empty"),
        (["http://x", "--api-key-file", "{dir}/none"], {}, "--api-key-file: {dir}/none cannot be read (No such file"),
        (["--rewrite", "{dir}/r"], {"r": "{"}, "--rewrite: {dir}/r is not JSON"),
        (["--rewrite", "{dir}/r"], {"r": '{"sytem": 1}'}, "rewrite.sytem: there is no such member"),
    ],
)
def test_a_challenger_that_is_none_is_not_brought(
    install: Install, tmp_path: Path, args: list[str], files: dict[str, str], said: str
) -> None:
    asyncio.run(install.fill([]))
    (install.root / "run").mkdir()
    (install.root / "run" / "addresses.json").write_text('{"admin": "http://127.0.0.1:1"}')
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    line = [arg.format(dir=tmp_path) for arg in args]
    result = ratchet(install, "challenge", *line, "--why", "x")
    assert result.exit_code == 2
    assert said.format(dir=tmp_path) in " ".join(result.output.split())
    assert commands(install) == []


async def decide(install: Install, action: str, *reasons: str) -> float:
    """Journal one decision of the loop; when it was, Unix seconds."""
    install.clock.advance(60.0)
    store = await install.open_store()
    try:
        lease = await store.leases.acquire("loop", "test", ttl_s=60)
        assert lease is not None
        inputs = {"reasons": list(reasons), "snapshot": {"phase": "idle"}}
        await store.journal.intend(action, fence=lease.fence, who="loop", why=reasons[0], inputs=inputs)
    finally:
        await store.close()
    return install.clock.now()


@pytest.mark.parametrize("through_server", [True, False])
def test_decisions_are_explained_and_listed_the_same_with_and_without_a_server(
    install: Install, through_server: bool
) -> None:
    first = asyncio.run(decide(install, "StartTraining", "1000 of 1000 new quality samples", "no cool-down"))
    asyncio.run(decide(install, "Promote", "sure that it is better"))

    def ask(*args: str) -> Any:
        if not through_server:
            (install.root / "run").mkdir(exist_ok=True)
            (install.root / "run" / "addresses.json").write_text('{"admin": "http://127.0.0.1:1"}')
            result = ratchet(install, *args, "--json")
        else:
            with Controller(install, CommandState.DONE).serving() as url:
                result = ratchet(install, *args, "--json", "--admin-url", url)
        return json.loads(result.stdout) if result.exit_code == 0 else result.exit_code

    assert ask("explain")["action"] == "Promote"
    then = ask("explain", "--at", str(first + 1))
    assert (then["action"], then["inputs"]["snapshot"]) == ("StartTraining", {"phase": "idle"})
    assert ask("explain", "--at", "1000000000") == 5
    assert ask("explain", "--at", "soon") == 2
    assert [entry["action"] for entry in ask("history")] == ["Promote", "StartTraining"]
    assert [entry["action"] for entry in ask("history", "--before", str(first + 1))] == ["StartTraining"]
    assert len(ask("history", "--limit", "1")) == 1


def test_an_explanation_for_people_gives_every_reason(install: Install) -> None:
    asyncio.run(decide(install, "StartTraining", "1000 of 1000 new quality samples", "no cool-down"))
    (install.root / "run").mkdir()
    (install.root / "run" / "addresses.json").write_text('{"admin": "http://127.0.0.1:1"}')
    text = ratchet(install, "explain").output
    assert all(
        said in text for said in ("Start training", "1000 of 1000 new quality samples", "no cool-down", "by loop")
    )
    assert "Start training" in ratchet(install, "history").output


def test_an_explanation_says_what_the_users_past_would_save(install: Install) -> None:
    asyncio.run(decide(install, "Promote", "sure that it is better"))
    controller = Controller(install, CommandState.DONE)
    controller.past_saving = PastSaving(saved=0.18, users=400, with_past=300, experiment_id=None)
    with controller.serving() as url:
        text = " ".join(ratchet(install, "explain", "--admin-url", url).output.split())
    assert "The users' past would save about 18.0 % of the wait here: of 400 users of the last two weeks" in text


@pytest.mark.parametrize("line", [["history"], ["explain"]])
def test_a_server_that_has_only_just_started_is_asked_again(install: Install, line: list[str]) -> None:
    """Right behind a restart its store is not open yet; what it says then is no answer."""

    class Starting(Controller):
        asked = 0

        async def opened(self) -> Store:
            self.asked += 1
            if self.asked < 3:
                raise TemporaryError("the store cannot be reached at the moment", retry_after_s=5)
            return await super().opened()

    controller = Starting(install, CommandState.DONE)
    with controller.serving() as url:
        result = ratchet(install, *line, "--json", "--admin-url", url)
    assert (controller.asked, "reached" in result.output) == (3, False), result.output


def test_an_order_that_was_taken_is_followed_through_a_restart(install: Install) -> None:
    """The controller that took it ends, and the next one does not have its store yet."""

    class Restarted(Controller):
        asked = 0

        def at_hand(self) -> Store | None:
            self.asked += 1
            return self.store if self.asked > 3 else None

    controller = Restarted(install, CommandState.DONE, "as you wish")
    with controller.serving() as url:
        result = ratchet(install, "resume", "--why", "it was the network", "--admin-url", url)
    assert (result.exit_code, "as you wish" in result.output) == (0, True), result.output
    assert controller.asked > 3
    assert len(commands(install)) == 1
