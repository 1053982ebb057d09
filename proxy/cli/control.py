"""Telling the loop what to do: trigger, promote, ….

A command goes to the running server, which wakes its loop; without one it is left in the store, and the loop finds it
when it starts. Either way it is journalled with who and why.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policies.vocabulary import COMMANDS, Verb
from proxy.cli.common import (
    AdminUrlOption,
    ConfigOption,
    DataDirOption,
    Exit,
    JsonOption,
    TokenOption,
    fail,
    print_json,
    read_config,
    read_json,
    read_text,
    say,
)

if TYPE_CHECKING:
    from proxy.cli.http import Server
    from proxy.config.model import Config
    from proxy.store.store import Store
    from proxy.store.tables.control import CommandRow

    _FromStore = Callable[[Store], Coroutine[Any, Any, Any]]

__all__ = [
    "WAIT_S",
    "Wait",
    "Where",
    "cancel",
    "challenge",
    "deploy",
    "pause",
    "proceed",
    "promote",
    "resume",
    "rollback",
    "share",
    "submit",
    "trigger",
]

_POLL_S = 0.2
WAIT_S = 30.0
"""The loop answers within a second or two; on a machine that trains, or right after a start, within ten or twenty."""
_NOT_YET = 503

Why = Annotated[str, typer.Option(help="The reason; it is kept with the decision.", show_default=False)]
Who = Annotated[str | None, typer.Option(help="Who gives the command.", show_default="the user name")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the loop's answer.")]


@dataclass(frozen=True, slots=True)
class Where:
    """Which server a command is for."""

    config: Path | None
    data_dir: str | None
    admin_url: str | None = None
    token: str | None = None


def _simple(verb: Verb) -> Callable[..., None]:
    """A command that takes no arguments of its own."""

    def command(
        why: Why, who: Who = None, wait: Wait = WAIT_S, config: ConfigOption = None, data_dir: DataDirOption = None,
        admin_url: AdminUrlOption = None, token: TokenOption = None, json: JsonOption = False,
    ) -> None:  # fmt: skip
        submit(verb, {}, why, Where(config, data_dir, admin_url, token), who=who, wait_s=wait, json=json)

    command.__name__, command.__doc__ = verb.value, COMMANDS[verb].meaning
    return command


promote = _simple(Verb.PROMOTE)
rollback = _simple(Verb.ROLLBACK)
pause = _simple(Verb.PAUSE)
resume = _simple(Verb.RESUME)
proceed = _simple(Verb.PROCEED)
cancel = _simple(Verb.CANCEL)


def trigger(
    why: Why, no_train: Annotated[bool, typer.Option("--no-train", help="Prepare the data and stop there.")] = False,
    who: Who = None, wait: Wait = WAIT_S, config: ConfigOption = None, data_dir: DataDirOption = None,
    admin_url: AdminUrlOption = None, token: TokenOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Retrain now, whatever the triggers say."""
    args = {"no_train": True} if no_train else {}
    submit("trigger", args, why, Where(config, data_dir, admin_url, token), who=who, wait_s=wait, json=json)


def share(
    share: Annotated[float, typer.Argument(min=0, max=1, help="Share of the users, 0 to 1.")], why: Why,
    who: Who = None, wait: Wait = WAIT_S, config: ConfigOption = None, data_dir: DataDirOption = None,
    admin_url: AdminUrlOption = None, token: TokenOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Change the challenger's share of the users; it stays there until the test ends. If the share rises, the evidence
    so far counts on; if it falls, evidence is collected afresh."""
    submit("share", {"share": share}, why, Where(config, data_dir, admin_url, token), who=who, wait_s=wait, json=json)


def deploy(
    run: Annotated[
        str,
        typer.Argument(
            help="The run whose model is to be served, or the path of a model (with a `/`, or `./` before it) on the "
            "server's machine, or a URL such as hf://org/name.",
            metavar="RUN|PATH",
        ),
    ],
    why: Why = "to be served again",
    who: Who = None, wait: Wait = WAIT_S, config: ConfigOption = None, data_dir: DataDirOption = None,
    admin_url: AdminUrlOption = None, token: TokenOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Serve a model as the challenger without training one: that of an earlier run (whose deployment failed, say), or
    the one at a path. It is checked before any user sees it."""
    args = {"path": _whole_path(run)} if "/" in run else {"run": run}
    submit("deploy", args, why, Where(config, data_dir, admin_url, token), who=who, wait_s=wait, json=json)


def challenge(
    why: Why,
    url: Annotated[
        str | None,
        typer.Argument(help="Base URL of the endpoint.", show_default="the champion's server"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="What the JSON `model` field of its requests says.", show_default=False)
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with its API key, which is sent to this URL only.", show_default=False)
    ] = None,
    api_key_header: Annotated[
        str | None, typer.Option(help="Header that carries the key.", show_default="authorization, after Bearer")
    ] = None,
    client_key: Annotated[
        bool, typer.Option("--client-key", help="Pass the clients' own keys on to this URL.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="What it is called in metrics and pages.", show_default="made up")
    ] = None,
    rewrite: Annotated[
        Path | None,
        typer.Option(help="JSON file: what is changed in its requests (system, examples, parameters).",
                     show_default=False),
    ] = None,
    who: Who = None, wait: Wait = WAIT_S, config: ConfigOption = None, data_dir: DataDirOption = None,
    admin_url: AdminUrlOption = None, token: TokenOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Bring a challenger of your own: an endpoint, another model of the champion's server, or the champion asked
    otherwise. Nothing is trained; it is checked before any user sees it, and then tested like any other."""
    given = {"url": url, "model": model, "name": name, "api_key_header": api_key_header, "client_key": client_key,
             "api_key": api_key_file and read_text(api_key_file, "--api-key-file"),
             "rewrite": rewrite and read_json(rewrite, "--rewrite")}  # fmt: skip
    document = {member: value for member, value in given.items() if value not in (None, False)}
    order = _Order(verb="challenge", path="/api/challengers", body=document, leave=_leave_challenger)
    _give(order, why, Where(config, data_dir, admin_url, token), who=who, wait_s=wait, json=json)


def submit(
    verb: str,
    args: dict[str, Any],
    why: str,
    where: Where,
    *,
    who: str | None = None,
    wait_s: float = WAIT_S,
    json: bool = False,
) -> None:
    """Give the loop a command and print what it answers within `wait_s` seconds."""
    order = _Order(verb=str(verb), path="/api/commands", body={"verb": verb, "args": args}, leave=_leave_command)
    _give(order, why, where, who=who, wait_s=wait_s, json=json)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A command on its way."""

    verb: str
    path: str
    """Of the admin port."""
    body: Mapping[str, Any] = field(repr=False)
    """What is sent there, beside who and why."""
    leave: Callable[[Store, Config, Mapping[str, Any]], Coroutine[Any, Any, CommandRow]]
    """Leaves it in the store, where no server runs."""


def _give(order: _Order, why: str, where: Where, *, who: str | None, wait_s: float, json: bool) -> None:
    """Send it, and print what the loop answers within `wait_s` seconds. One that was taken is never given again."""
    from proxy.cli.http import ServerError, admin_server

    if not why.strip():
        fail(Exit.USAGE, "--why is empty; say in a sentence why, it is kept with the decision")
    loaded = read_config(where.config, where.data_dir)
    server = admin_server(loaded, where.admin_url, where.token)
    body = {**order.body, "who": who or getpass.getuser(), "why": why}
    ends = time.monotonic() + wait_s
    taken = None
    try:
        taken = _accepted(server, order.path, body, ends)
        command = _settled(server, taken, ends)
    except ServerError as exc:
        fail(Exit.FAILED, f"{server.url}: {exc}")
    except OSError as exc:
        if taken is not None:
            fail(Exit.UNREACHABLE, f"{order.verb} is queued as command {taken}; {server.url} has gone since ({exc})")
        if where.admin_url is not None:
            fail(Exit.UNREACHABLE, f"no server answers at {server.url} ({exc})")
        command = _left_in_store(loaded, body, order)
    verb = order.verb
    if json:
        print_json(command)
    elif command["state"] == "pending":
        say(f"{verb} is queued as command {command['id']}; the loop has not answered yet (`ratchet history`)")
    elif command["state"] == "done":
        say(f"{verb}: {command['detail'] or 'done'}")
    if command["state"] == "refused":
        fail(Exit.FAILED, f"{verb} was refused: {command['detail']}")


def _accepted(server: Server, path: str, body: Mapping[str, Any], ends: float) -> int:
    """The id of the command; a server that has only just started is asked again until `ends`, monotonic seconds."""
    from proxy.cli.http import ServerError

    while True:
        try:
            return int(server.post(path, body)["id"])
        except ServerError as exc:
            if exc.status != _NOT_YET or time.monotonic() >= ends:
                raise
        time.sleep(_POLL_S)


def _settled(server: Server, command_id: int, ends: float) -> dict[str, Any]:
    """The command once the loop has answered it, or as it stands at `ends`, monotonic seconds."""
    while True:
        command: dict[str, Any] = server.get_once_ready(f"/api/commands/{command_id}", ends - time.monotonic())
        if command["state"] != "pending" or time.monotonic() >= ends:
            return command
        time.sleep(_POLL_S)


def _left_in_store(config: Config, body: Mapping[str, Any], order: _Order) -> dict[str, Any]:
    from proxy.cli.stores import with_store

    async def work(store: Store) -> dict[str, Any]:
        return asdict(await order.leave(store, config, body))

    command = with_store(config, work)
    say("no server is running here; the loop reads this command when it starts", err=True)
    return command


async def _leave_command(store: Store, config: Config, body: Mapping[str, Any]) -> CommandRow:
    return await store.commands.submit(body["verb"], who=body["who"], why=body["why"], args=body["args"])


async def _leave_challenger(store: Store, config: Config, body: Mapping[str, Any]) -> CommandRow:
    from proxy.web.challengers import arguments, read_challenger

    try:
        brought = read_challenger({name: value for name, value in body.items() if name not in ("who", "why")})
    except ValueError as exc:
        fail(Exit.USAGE, str(exc))
    args, key = await arguments(brought, store, config.champion)
    return await store.commands.submit(Verb.CHALLENGE, who=body["who"], why=body["why"], args=args, key=key)


def _whole_path(text: str) -> str:
    """A path of this machine made whole; a URL is one already."""
    return text if "://" in text else str(Path(text).expanduser().absolute())
