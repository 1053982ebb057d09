"""`ratchet feedback`: vote on a record from the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, fail, print_json, read_config, say

if TYPE_CHECKING:
    from proxy.config.model import Config

__all__ = ["feedback"]

_WORDS = {"good": 1, "1": 1, "+1": 1, "neutral": 0, "0": 0, "bad": -1, "-1": -1, "retract": None}
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def feedback(
    record: Annotated[str, typer.Argument(help="Id of the record, as `records list` or x-ratchet-record-id shows it.")],
    vote: Annotated[
        str | None, typer.Argument(help="good, bad, neutral or retract (or 1, -1, 0).", show_default=False)
    ] = None,
    comment: Annotated[str | None, typer.Option(help="Why.", show_default=False)] = None,
    correction: Annotated[
        str | None, typer.Option(help="What the answer should have been.", show_default=False)
    ] = None,
    score: Annotated[float | None, typer.Option(min=0, max=1, help="Quality score.", show_default=False)] = None,
    source: Annotated[str, typer.Option(help="Who votes; one vote per record and source.")] = "cli",
    url: Annotated[
        str | None, typer.Option(help="Public port of the server; by default the local one's.", show_default=False)
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RATCHET_FEEDBACK_TOKEN",
            help="Feedback token, for scores, corrections, and a provider's or client-chosen id.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Vote on a record: `ratchet feedback ID good`, `ratchet feedback ID bad --correction "…"`."""
    if vote is not None and vote.lower() not in _WORDS:
        fail(Exit.USAGE, f"{vote!r} is not a vote; write good, bad, neutral or retract")
    if (vote, comment, correction, score) == (None, None, None, None):
        fail(Exit.USAGE, "the vote is empty; write good, bad, neutral or retract, or give --correction or --score")
    loaded = read_config(config, data_dir)
    body: dict[str, Any] = {"record_id": _signed(loaded, record), "source": source}
    if vote is not None:
        body["feedback"] = _WORDS[vote.lower()]
    body |= {name: value for name, value in (("comment", comment), ("correction", correction), ("quality_score", score))
             if value is not None}  # fmt: skip
    answer = _post(loaded, url, token, body)
    if json:
        print_json(answer)
    else:
        say(f"accepted as {answer['feedback_id']}")
        if idle := answer.get("not_counted"):
            say(f"kept, but not counted: {', '.join(idle)}: {answer['why']}", err=True)


def _signed(config: Config, record: str) -> str:
    """A record's UUID, which lists show, as the signed id that the endpoint wants; any other name as it is."""
    from proxy.cli.stores import key_ring
    from proxy.ids import RecordIds

    if not _UUID.fullmatch(record):
        return record
    return RecordIds(key_ring(config)).sign(record.replace("-", "").lower())


def _post(config: Config, url: str | None, token: str | None, body: dict[str, Any]) -> Any:
    from proxy.cli.http import ServerError, public_server

    server = public_server(config, url, token)
    try:
        return server.post("/-/feedback", body)
    except ServerError as exc:
        fail(Exit.NOT_FOUND if exc.status == 410 else Exit.FAILED, str(exc))
    except OSError as exc:
        fail(
            Exit.UNREACHABLE,
            f"no server answers at {server.url} ({exc}); start one with `ratchet serve`, or give --url",
        )
