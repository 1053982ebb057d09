"""`ratchet check-config --connect`: is what the settings name there, and does it let us in? One line for each."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from proxy.app.model_probe import probe_model
from proxy.app.paths import DataDir
from proxy.clock import SystemClock
from proxy.config.authorities import trusting, why_not_trusted
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters.deployers.health import trusts_unseen

if TYPE_CHECKING:
    from proxy.config.model import Config

__all__ = ["Attempt", "attempts"]

_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was tried, and what came of it."""

    setting: str
    ok: bool
    said: str

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


class _FailedError(Exception):
    """It is there, and does not let us do what we have to."""


async def attempts(config: Config) -> list[Attempt]:
    """Try everything at once; in the order in which it matters."""
    tls = trusting(config.champion.ca_file)
    tries = list(_tries(config, tls))
    return list(await asyncio.gather(*(_attempt(setting, call) for setting, call in tries)))


async def _attempt(setting: str, call: Callable[[], Awaitable[str]]) -> Attempt:
    try:
        async with asyncio.timeout(_LONGEST_S):
            return Attempt(setting, True, await call())
    except TimeoutError:
        return Attempt(setting, False, f"no answer within {_LONGEST_S:g} s")
    except (_FailedError, TemporaryError, PermanentError, ConfigError, OSError) as exc:
        return Attempt(setting, False, str(exc).removeprefix("store: ").removeprefix(f"{setting}: "))


def _tries(config: Config, tls: ssl.SSLContext | None) -> Iterator[tuple[str, Callable[[], Awaitable[str]]]]:
    if config.champion.url:
        yield "champion.url", lambda: _champion(config, tls)
    yield "store.url", lambda: _store(config)
    if config.store.archive.url:
        yield "store.archive.url", lambda: _archive(config)
    if config.judge.kind == "openai":
        yield "judge.url", lambda: _judge(config, tls)
    if config.trainer.kind in _TRAINERS:
        yield "trainer.url", lambda: _TRAINERS[config.trainer.kind](config, tls)
    if config.feedback.open_webui.url:
        yield "feedback.open_webui.url", lambda: _open_webui(config, tls)
    if config.telemetry.otlp_endpoint:
        yield "telemetry.otlp_endpoint", lambda: _collector(config, tls)
    deployer = config.deployer
    if trusts_unseen(deployer):
        return
    path = deployer.health_path if deployer.kind == "static" else "/v1/models" if deployer.kind == "vllm_lora" else ""
    for url in dict.fromkeys(url for url in (deployer.url, *deployer.urls) if url and deployer.kind != "command"):
        yield f"deployer.url {url}", lambda url=url: _answers(url, path, deployer.token_file, tls)  # type: ignore[misc]


async def _champion(config: Config, tls: ssl.SSLContext | None) -> str:
    url = config.champion.url
    if problem := await probe_model(url, credential=config.champion.credential_header(), tls=tls):
        raise _FailedError(problem)
    return f"{url} answers"


async def _store(config: Config) -> str:
    from proxy.store.engine.rights import try_rights

    return f"{await try_rights(DataDir.of(config).store_url(config), SystemClock())}: tables can be made and written"


async def _archive(config: Config) -> str:
    from proxy.cli.stores import open_place

    await asyncio.to_thread(open_place, str(config.store.archive.url))
    return f"the libraries for {config.store.archive.url} are there"


async def _judge(config: Config, tls: ssl.SSLContext | None) -> str:
    """One question, as small as they come: a key that may list models need not be one that may ask them."""
    from proxy.judge.build import make_judge
    from proxy.judge.ports import JudgeItem

    judge = make_judge(config.judge, tls)
    assert judge is not None  # its kind is openai
    try:
        user, said = {"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}
        (found,) = await judge.score([JudgeItem(messages=(user,), answer=said)])
    finally:
        await judge.close()
    if found.score is None:
        raise _FailedError(found.reason or "it gave no score")
    return f"{config.judge.model} judges (one question was asked: {found.score:g})"


async def _open_webui(config: Config, tls: ssl.SSLContext | None) -> str:
    """Its list of votes, which the key of an administrator may read."""
    from proxy.web.open_webui.api import OpenWebUI, OpenWebUIError

    outside = config.feedback.open_webui
    try:
        async with OpenWebUI(str(outside.url), outside.key or "", tls) as asked:
            return f"{outside.url} lets us read its votes ({len(await asked.votes())} so far)"
    except OpenWebUIError as exc:
        raise _FailedError(str(exc)) from exc


async def _collector(config: Config, tls: ssl.SSLContext | None) -> str:
    """A receiver of OTLP takes POST alone: any answer to a GET is a sign of life, but one that says that we may not."""
    import aiohttp

    from proxy.config.programs import otlp_target
    from proxy.loop.adapters.session import open_session

    target = otlp_target(config.telemetry)
    assert target is not None  # there is an endpoint
    url = f"{target.endpoint.rstrip('/')}/v1/traces"
    try:
        session = open_session(aiohttp.ClientTimeout(total=10.0), tls)
        async with session as client, client.get(url, headers=target.headers) as answer:
            if answer.status in (401, 403):
                raise _FailedError(f"{url} refuses us ({answer.status}); check telemetry.otlp_headers")
            return f"{url} answers {answer.status}"
    except aiohttp.ClientError as exc:
        raise _FailedError(f"{url} cannot be reached: {why_not_trusted(exc) or exc}") from exc


async def _answers(url: str, path: str, token_file: str | None, tls: ssl.SSLContext | None) -> str:
    """Any answer, but one that says that we may not."""
    from proxy.loop.adapters.webhook import Webhook

    answer = await Webhook("url", url, token_file, timeout_s=10.0, tls=tls).call("GET", path)
    if answer.status in (401, 403):
        raise _FailedError(f"{url}{path} refuses us ({answer.status}); check token_file")
    return f"{url}{path} answers {answer.status}"


async def _openai(config: Config, tls: ssl.SSLContext | None) -> str:
    trainer = config.trainer
    url = (trainer.url or "https://api.openai.com/v1").rstrip("/")
    if trainer.token_file is None:
        raise _FailedError("trainer.token_file is not set; write the API key into a file and name it there")
    return await _answers(url, "/fine_tuning/jobs?limit=1", trainer.token_file, tls)


async def _kubernetes(config: Config, tls: ssl.SSLContext | None) -> str:
    """Whether this token may make Jobs: the API server says so without making one."""
    from proxy.loop.adapters.webhook import Webhook

    trainer = config.trainer
    namespace = trainer.options.get("namespace", "default")
    api = Webhook("trainer.url", trainer.url, trainer.token_file, ca_file=trainer.options.get("ca_file"), tls=tls)
    wanted = {"namespace": namespace, "verb": "create", "group": "batch", "resource": "jobs"}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
              "spec": {"resourceAttributes": wanted}}  # fmt: skip
    answer = await api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
    if not answer.good:
        raise _FailedError(f"{trainer.url} answers {answer.excerpt()}; check trainer.token_file")
    status = answer.content.get("status") if isinstance(answer.content, dict) else None
    if not (isinstance(status, dict) and status.get("allowed")):
        raise _FailedError(
            f"this account may not make Jobs in the namespace {namespace}; give it the verbs create, get and delete on "
            "jobs (group batch)"
        )
    return f"{trainer.url} lets us make Jobs in the namespace {namespace}"


async def _ray(config: Config, tls: ssl.SSLContext | None) -> str:
    from importlib.util import find_spec

    trainer = config.trainer
    if trainer.options.get("data_url") and find_spec("fsspec") is None:
        raise _FailedError("trainer.options.data_url needs fsspec: pip install 'ratchet-proxy[archive]'")
    return await _answers(str(trainer.url).rstrip("/"), "/api/version", trainer.token_file, tls)


async def _http(config: Config, tls: ssl.SSLContext | None) -> str:
    return await _answers(str(config.trainer.url).rstrip("/"), "", config.trainer.token_file, tls)


_TRAINERS: dict[str, Callable[[Config, ssl.SSLContext | None], Awaitable[str]]] = {
    "openai": _openai, "kubernetes": _kubernetes, "ray": _ray, "http": _http,
}  # fmt: skip
