"""What a configuration may not say: numbers out of range, forms that mean nothing, settings that contradict.

A range and the form of a text stand beside their setting; contradictions are here, one generator per subject. What
cannot apply, because the library's LoopConfig has no such table, is left out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from policies.intervals import Interval
from proxy.config import forms
from proxy.config.literal import show
from proxy.config.model import Config
from proxy.config.parse import Problem, ValueForm, keys
from proxy.config.serving import MAX_TAGS, TASK_PATTERNS
from proxy.errors import ConfigError
from proxy.patterns import compile_pattern

__all__ = ["SHORTEST_TOKEN", "check_serving", "contradictions", "is_loopback", "weak_tokens"]


_ANY: Final = frozenset({"0.0.0.0", "::"})
"""Hosts of a listener on every address."""
_SECRETS: Final = frozenset((
    "authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "x-ratchet-admin-token",
    "x-ratchet-token",
))  # fmt: skip
SHORTEST_TOKEN: Final = 16
"""Characters; 16 of openssl's hexadecimal ones are 64 bits, which nobody guesses at the pace that we allow."""
_OTHER_ENGINE: Final = ' (or set capture.redaction.engine = "python", which a hostile text can slow down)'


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_serving(config: Config) -> None:
    """Raise ConfigError where `config`, although sound, is not enough to serve: there is no model to forward to."""
    if not config.champion.url:
        raise ConfigError(
            "champion.url: not set, so there is nothing to forward to; "
            'give `--champion http://127.0.0.1:8000`, or url = "…" under [champion]'
        )


def weak_tokens(config: Config) -> Iterator[Problem]:
    """Tokens of ours that are short enough to be guessed. `contradictions` refuses them where more than this machine can
    try: these are left."""
    for path, token in {path: token for path, token, _ in _tokens(config)}.items():
        if token and len(token) < SHORTEST_TOKEN:
            yield Problem(path, f"{_short(token)}; only this machine can try it, but make a longer one: {_MAKE_ONE}")


def _tokens(config: Config) -> Iterator[tuple[str, str | None, str]]:
    """Setting, token, and the address on which it is asked for."""
    if config.admin.enabled:
        yield "admin.token", config.admin.token, config.admin.host
    yield "admin.token", config.admin.token, config.server.host  # it lets QA choose an arm: x-ratchet-admin-token
    yield "feedback.token", config.feedback.token, config.server.host
    yield "sticky.token", config.sticky.token, config.server.host


_MAKE_ONE: Final = "openssl rand -hex 32"


def _short(token: str) -> str:
    return f"has {len(token)} characters, and fewer than {SHORTEST_TOKEN} can be guessed"


def contradictions(config: Any) -> Iterator[Problem]:
    """Everything that is wrong with the values of `config`, one Problem each."""
    yield from _declared(config)
    yield from _places(config)
    yield from _loop(config)
    yield from _excludes(config)
    if isinstance(config, Config):
        yield from _process(config)
        yield from _task_patterns(config)
        yield from _adapters(config)
        yield from _judge(config)
        yield from _receivers(config)
        yield from _open_webui(config)
        yield from _recorded_headers(config)
        yield from _redaction(config)


def _places(config: Any) -> Iterator[Problem]:
    """Names of files and folders that no system call takes: they would be met as exceptions wherever they are used."""
    for key in keys(type(config)):
        text = _value(config, key.path) if key.name.endswith(("_file", "_dir", "_path")) else None
        if isinstance(text, str) and (wrong := _no_place(text)) is not None:
            yield Problem(key.path, wrong)


def _no_place(text: str) -> str | None:
    if "\0" in text:
        return f"{show(text)} has a NUL character in it, which no file name may have"
    try:
        Path(text).expanduser()
    except RuntimeError:
        return f"{show(text)} is in the home of a user who is not known here; write the whole path"
    return None


def _open_webui(config: Config) -> Iterator[Problem]:
    outside = config.feedback.open_webui
    if outside.url is not None and not (outside.key or outside.key_file):
        message = "not set, although feedback.open_webui.url is; make an API key as an administrator of Open WebUI"
        yield Problem("feedback.open_webui.key", message)
    if outside.url is None and (outside.key or outside.key_file):
        yield Problem("feedback.open_webui.url", "not set, although there is a key; give Open WebUI's address")


def _judge(config: Config) -> Iterator[Problem]:
    judge = config.judge
    if judge.kind == "openai" and not judge.model:
        yield Problem("judge.model", "not set, although judge.kind is openai; name the model that judges")
    if judge.kind != "none" and judge.max_per_hour > judge.max_per_day:
        message = f"{judge.max_per_hour} is more than max_per_day ({judge.max_per_day}); make it smaller"
        yield Problem("judge.max_per_hour", message)
    if {"messages", "model"} & judge.options.keys():
        yield Problem(
            "judge.options", "has messages or model, which are set by us; leave them out, and use judge.model"
        )


def _receivers(config: Config) -> Iterator[Problem]:
    named, urls = len(config.notify.kinds), len(config.notify.urls)
    if named > urls:
        yield Problem(
            "notify.kinds", f"has {named} entries for {urls} notify.urls; write one for each URL, in their order"
        )


def _excludes(config: Any) -> Iterator[Problem]:
    for at, pattern in enumerate(config.generator_config.exclude, start=1):
        if (complaint := _telling_pattern(pattern)) is not None:
            yield Problem("generator_config.exclude", f"number {at}, {complaint}")


def _value(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = getattr(config, part)
    return config


def _declared(config: Any) -> Iterator[Problem]:
    """Values that are not what their setting's own declaration asks for: a range, or the form of a text."""
    for key in keys(type(config)):
        for rule in key.rules:
            value = _value(config, key.path)
            for part in value if isinstance(value, tuple) else (value,):
                if part is not None and part != "" and (wrong := _complaint(rule, part)) is not None:
                    yield Problem(key.path, wrong)


def _complaint(rule: Interval | ValueForm, value: Any) -> str | None:
    if not isinstance(rule, Interval):
        return rule(value)
    remedy = rule.remedy(value)
    return None if remedy is None else f"{show(value)} is {remedy}"


def _task_patterns(config: Config) -> Iterator[Problem]:
    for pattern in config.capture.task_patterns:
        if (complaint := _telling_pattern(pattern)) is not None:
            yield Problem("capture.task_patterns", complaint)


def _loop(config: Any) -> Iterator[Problem]:
    test, data = config.ab_test_config, config.generator_config
    if test.min_duration_hours > test.max_duration_hours:
        message = f"{show(test.min_duration_hours)} is more than max_duration_hours ({show(test.max_duration_hours)}); no experiment could end"
        yield Problem("ab_test_config.min_duration_hours", message)
    if any(one >= following for one, following in pairwise(test.stages)):
        message = f"{show(test.stages)}: a share may only rise, so that no user goes back; put them in order"
        yield Problem("ab_test_config.stages", message)
    if len(test.stages) > 1 and max(test.stages) < test.initial_challenger_traffic:
        message = f"{show(test.stages)}: none is at least initial_challenger_traffic ({show(test.initial_challenger_traffic)}), from which on the gain is measured; add one, or make that smaller"
        yield Problem("ab_test_config.stages", message)
    if test.quality_weight + test.feedback_weight + test.latency_weight == 0:
        message = "all three weights are 0, so nothing can be better; give at least one of quality_weight, feedback_weight, latency_weight"
        yield Problem("ab_test_config.quality_weight", message)
    if data.include_existing_data and not data.existing_data_path:
        message = "true, but existing_data_path is not set; name the JSONL file to mix in"
        yield Problem("generator_config.include_existing_data", message)


def _process(config: Config) -> Iterator[Problem]:
    server, admin, spool = config.server, config.admin, config.spool
    if not server.data_dir:
        yield Problem("server.data_dir", 'empty; name a directory, for example data_dir = "ratchet-data"')
    if spool.segment_bytes > spool.max_bytes:
        message = f"{spool.segment_bytes} is more than spool.max_bytes ({spool.max_bytes}); make it smaller"
        yield Problem("spool.segment_bytes", message)
    if (server.tls_cert_file is None) != (server.tls_key_file is None):
        given, missing = ("cert", "key") if server.tls_cert_file else ("key", "cert")
        yield Problem(f"server.tls_{missing}_file", f"not set, although tls_{given}_file is; HTTPS needs both")
    if admin.enabled:
        yield from _admin(config)
    if config.sticky.trust == "token" and not (config.sticky.token or config.sticky.token_file):
        yield Problem("sticky.trust", '"token", but there is no sticky.token; set sticky.token_file or token')
    exposed = {path: (token, listener) for path, token, listener in _tokens(config) if not is_loopback(listener)}
    for path, (token, listener) in exposed.items():
        if token and len(token) < SHORTEST_TOKEN:
            message = (
                f'{_short(token)}; "{listener}" can be reached from other machines: make a longer one, {_MAKE_ONE}'
            )
            yield Problem(path, message)
    yield from _circle(config)


def _circle(config: Config) -> Iterator[Problem]:
    """A champion that is this very server: each request would come back to it, until nothing is left."""
    if forms.base_url(url := config.champion.url) is not None or not url:
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    for name, listener in (("server", config.server), ("admin", config.admin)):
        here = host == listener.host or (is_loopback(host) and (is_loopback(listener.host) or listener.host in _ANY))
        if here and port == listener.port:
            message = f"{show(url)} is Ratchet's own address ({name}.port); name the model's server, or choose another {name}.port"
            yield Problem("champion.url", message)


def _admin(config: Config) -> Iterator[Problem]:
    server, admin = config.server, config.admin
    if not is_loopback(admin.host) and not (admin.token or admin.token_file):
        message = (f'"{admin.host}" can be reached from other machines, and there is no admin.token; '
                   "set admin.token_file (or token), or listen on 127.0.0.1")  # fmt: skip
        yield Problem("admin.host", message)
    if admin.metrics_need_token and not (admin.token or admin.token_file):
        yield Problem("admin.metrics_need_token", "true, but there is no admin.token; set admin.token_file or token")
    if admin.port == server.port != 0 and (admin.host == server.host or _ANY & {admin.host, server.host}):
        yield Problem("admin.port", f"{admin.port} is server.port, too; choose another one")


def _recorded_headers(config: Config) -> Iterator[Problem]:
    """Headers that tell tasks, tags and other names are written down as they are: none may name a person or hold a secret."""
    sticky = config.sticky
    people = {name.partition("#")[0].lower() for name in (*sticky.headers, *sticky.conversation_headers)}
    secrets = _SECRETS | {config.champion.api_key_header.lower()}
    capture = config.capture
    aliases = [name.partition("#")[0] for name in capture.alias_headers]
    for setting, names in (
        ("task_headers", capture.task_headers),
        ("tag_headers", capture.tag_headers),
        ("alias_headers", aliases),
    ):
        for name in names:
            if name.lower() in secrets:
                yield Problem(f"capture.{setting}", f"{show(name)} carries a credential, and would be written down")
            elif name.lower() in people | {"x-ratchet-user"}:
                yield Problem(f"capture.{setting}", f"{show(name)} names users (see sticky), and would be written down")
    if (tags := len(capture.tag_headers) + len(capture.tag_fields)) > MAX_TAGS:
        yield Problem("capture.tag_headers", f"{tags} tags with those of tag_fields; at most {MAX_TAGS}")


def _pattern(text: str) -> str | None:
    """As `_redaction` for patterns that always run in linear time."""
    if text in TASK_PATTERNS:  # our own, linear as they are
        return None
    try:
        compile_pattern(text)
    except ValueError as exc:
        return f"{show(text)} {exc}"
    return None


def _redaction(config: Config) -> Iterator[Problem]:
    redaction = config.capture.redaction
    for pattern in redaction.patterns:
        try:
            compile_pattern(pattern, redaction.engine)
        except ValueError as exc:
            other = "" if redaction.engine == "python" or _is_no_pattern(pattern) else _OTHER_ENGINE
            yield Problem("capture.redaction.patterns", f"{show(pattern)} {exc}{other}")


def _is_no_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return True
    return False


def _telling_pattern(text: str) -> str | None:
    """One that tells some texts from others: `.*`, or the empty one, would take every request out of the data."""
    if (complaint := _pattern(text)) is not None:
        return complaint
    if all(re.search(text, said) for said in ("", "Why?", "7 \u2603\n")):
        return f"{show(text)} matches every text; remove it, or write what only some texts have"
    return None


def _adapters(config: Config) -> Iterator[Problem]:
    """What the chosen kind of trainer, deployer and judge needs."""
    for table, needs in (("trainer", _TRAINER_NEEDS), ("deployer", _DEPLOYER_NEEDS), ("judge", _JUDGE_NEEDS)):
        settings = getattr(config, table)
        key, remedy = needs.get(settings.kind, (None, ""))
        if key is not None and not getattr(settings, key) and not (settings.kind == "vllm_lora" and settings.urls):
            yield Problem(f"{table}.{key}", f"not set, although {table}.kind is {settings.kind}; {remedy}")


_TRAINER_NEEDS: Final = {
    "callable": ("callable", 'write callable = "package.module:train_model"'),
    "command": ("command", 'write command = ["python", "train.py", "{data_path}"]'),
    "http": ("url", "give the webhook's URL"),
    "ray": ("url", "give the dashboard's URL, like http://127.0.0.1:8265"),
}
_JUDGE_NEEDS: Final = {
    "callable": ("callable", 'write callable = "package.module:function"'),
    "openai": ("url", "give the base URL of its API, like https://api.openai.com/v1"),
}
_DEPLOYER_NEEDS: Final = {
    "command": ("command", 'write command = ["python", "serve.py", "{model_path}", "{port}"]'),
    "http": ("url", "give the webhook's URL"),
    "vllm_lora": ("url", "give the base URL of the vLLM server"),
}
