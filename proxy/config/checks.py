"""What a configuration may not say: numbers out of range, forms that mean nothing, settings that contradict.

Ranges are a table in `ranges.py`, forms of text a table here, contradictions one generator per subject. What can
not apply, because the library's LoopConfig has no such table, is left out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from proxy.config.model import Config
from proxy.config.parse import Problem, keys, show
from proxy.config.ranges import RANGES
from proxy.config.serving import TASK_PATTERNS
from proxy.config.storage import POSTGRESQL_OPTIONS
from proxy.errors import ConfigError
from proxy.patterns import compile_pattern

__all__ = ["SHORTEST_TOKEN", "check_serving", "contradictions", "is_loopback", "weak_tokens"]


_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ANY: Final = frozenset({"0.0.0.0", "::"})
"""Hosts of a listener on every address."""
_SECRETS: Final = frozenset((
    "authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "x-ratchet-admin-token",
    "x-ratchet-token",
))  # fmt: skip
SHORTEST_TOKEN: Final = 16
"""Characters; 16 of openssl's hexadecimal ones are 64 bits, which nobody guesses at the pace that we allow."""
_OTHER_ENGINE: Final = ' (or set capture.redaction.engine = "python", which a hostile text can slow down)'
_CALLABLE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


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
    yield from _out_of_range(config)
    yield from _loop(config)
    yield from _excludes(config)
    if isinstance(config, Config):
        yield from _process(config)
        yield from _bad_forms(config)
        yield from _adapters(config)
        yield from _recorded_headers(config)
        yield from _redaction(config)


def _excludes(config: Any) -> Iterator[Problem]:
    for at, pattern in enumerate(config.generator_config.exclude, start=1):
        if (complaint := _telling_pattern(pattern)) is not None:
            yield Problem("generator_config.exclude", f"number {at}, {complaint}")


def _value(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = getattr(config, part)
    return config


def _out_of_range(config: Any) -> Iterator[Problem]:
    present = {key.path for key in keys(type(config))}
    for interval, paths in RANGES.items():
        for path in paths:
            value = _value(config, path) if path in present else None
            if value is not None and (complaint := interval.complaint(value)) is not None:
                yield Problem(path, complaint)


def _loop(config: Any) -> Iterator[Problem]:
    test, data = config.ab_test_config, config.generator_config
    if test.min_duration_hours > test.max_duration_hours:
        message = f"{show(test.min_duration_hours)} is more than max_duration_hours ({show(test.max_duration_hours)}); no experiment could end"
        yield Problem("ab_test_config.min_duration_hours", message)
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
    if _bad_url(url := config.champion.url) is not None or not url:
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
    """Headers that tell tasks are written down as they are: none of them may name a person or hold a secret."""
    sticky = config.sticky
    people = {name.partition("#")[0].lower() for name in (*sticky.headers, *sticky.conversation_headers)}
    secrets = _SECRETS | {config.champion.api_key_header.lower()}
    for name in config.capture.task_headers:
        if name.lower() in secrets:
            yield Problem("capture.task_headers", f"{show(name)} carries a credential, and would be written down")
        elif name.lower() in people | {"x-ratchet-user"}:
            yield Problem("capture.task_headers", f"{show(name)} names users (see sticky), and would be written down")


def _bad_forms(config: Config) -> Iterator[Problem]:
    for test, paths in _FORMS.items():
        for path in paths:
            value = _value(config, path)
            for part in value if isinstance(value, tuple) else (value,):
                unset = part is None or (part == "" and test is not _telling_pattern)
                if not unset and (complaint := test(part)) is not None:
                    yield Problem(path, complaint)


def _bad_url(text: str) -> str | None:
    if (complaint := _webhook(text)) is not None:
        return complaint
    parts = urlsplit(text)
    if parts.query or parts.fragment:
        return f"{show(text)} has a query or fragment; give scheme, host, port and path only"
    return None


def _webhook(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        return f"{show(text)} is not a URL ({exc}); write it like http://127.0.0.1:8000"
    if parts.scheme not in ("http", "https") or not host or any(char <= " " or char == "\x7f" for char in text):
        return f"{show(text)} is not the URL of an HTTP server; write it like http://127.0.0.1:8000"
    if parts.netloc.endswith(":"):
        return f"{show(text)} ends its host with a colon; write the port after it, or leave it out"
    if parts.username or parts.password:
        return "has a user name or password in it; leave it out and use the key or token setting of this table"
    return None


def _store_url(text: str) -> str | None:
    if re.match(r"sqlite(\+\w+)?://", text):
        return None
    return _postgresql_url(text, "is neither sqlite:///path/to/file.db nor postgresql://user:password@host/database")


def _postgresql_url(text: str, else_: str = "is not postgresql://user:password@host/database") -> str | None:
    """What is wrong with it, never with its words: they may hold a password."""
    if not re.match(r"postgres(ql)?(\+\w+)?://", text):
        return else_
    found = re.match(
        r"[^:]+://(?:[^:/]*(?::[^@]*)?@)?(?P<host>\[[^\]]*\]|[^:/?]*)(?P<port>[^/?]*)(?P<rest>.*)", text, re.S
    )
    if found is None or not re.fullmatch(r"(:\d{1,5})?", found["port"]):
        return "has no number behind its host's colon; write signs like @, : and / in a password as %40, %3A and %2F"
    names = {pair.partition("=")[0] for pair in found["rest"].partition("?")[2].split("&") if pair}
    if unknown := names - POSTGRESQL_OPTIONS:
        return f"has {show(min(unknown))} after the question mark, which is not supported; leave it out"
    return None


def _header_name(text: str) -> str | None:
    return None if _TOKEN.fullmatch(text) else f"{show(text)} is not a header name; use letters, digits and hyphens"


def _header_member(text: str) -> str | None:
    name, mark, member = text.partition("#")
    if mark and not member:
        return f"{show(text)} names no member; write name#member, like x-portkey-metadata#_user"
    return _header_name(name)


def _network(text: str) -> str | None:
    try:
        ipaddress.ip_network(text)
    except ValueError as exc:
        return f"{show(text)} is not a network ({exc}); write it like 10.0.0.0/8 or 2001:db8::/32"
    return None


def _secret(text: str) -> str | None:
    if text.isprintable() and text.isascii() and text == text.strip():
        return None
    return "has spaces around it, or characters that a header cannot carry; write the bare secret"


def _origin(text: str) -> str | None:
    parts = urlsplit(text)
    if text == "*" or (parts.scheme and parts.netloc and text == f"{parts.scheme}://{parts.netloc}"):
        return None
    return f"{show(text)} is no origin; write scheme, host and port only, like https://chat.example.com, or *"


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


def _pointer(text: str) -> str | None:
    if text.startswith("/"):
        return None
    return f"{show(text)} is not a JSON pointer; it starts with a slash, like /choices/0/text"


def _path(text: str) -> str | None:
    return None if text.startswith("/") else f"{show(text)} is no path; it starts with a slash, like /health"


def _refusal(status: int) -> str | None:
    return None if 400 <= status <= 499 else f"{status} is not a status of a refusal; write numbers from 400 to 499"


def _callable(text: str) -> str | None:
    return None if _CALLABLE.fullmatch(text) else f"{show(text)} is not of the form package.module:function"


_FORMS: Final[dict[Callable[[Any], str | None], tuple[str, ...]]] = {
    _bad_url: ("champion.url", "trainer.url", "deployer.url", "deployer.urls"),
    _webhook: ("notify.urls",),
    _store_url: ("store.url",),
    _postgresql_url: ("store.listen_url",),
    _header_name: ("champion.api_key_header", "capture.no_train_header", "capture.task_headers"),
    _header_member: ("sticky.headers", "sticky.conversation_headers"),
    _secret: ("champion.api_key", "feedback.token", "admin.token", "sticky.token"),
    _network: ("sticky.trusted_networks",),
    _origin: ("feedback.cors_origins",),
    _telling_pattern: ("capture.task_patterns",),
    _pointer: (
        "capture.query_pointers",
        "capture.response_pointers",
        "capture.user_pointers",
        "capture.quality_pointers",
    ),
    _path: ("capture.skip_paths", "deployer.health_path"),
    _refusal: ("gateway.fallback_statuses",),
    _callable: ("capture.redaction.callable", "trainer.callable"),
}


def _adapters(config: Config) -> Iterator[Problem]:
    """What the chosen kind of trainer and deployer needs."""
    for table, needs in (("trainer", _TRAINER_NEEDS), ("deployer", _DEPLOYER_NEEDS)):
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
_DEPLOYER_NEEDS: Final = {
    "command": ("command", 'write command = ["python", "serve.py", "{model_path}", "{port}"]'),
    "http": ("url", "give the webhook's URL"),
    "vllm_lora": ("url", "give the base URL of the vLLM server"),
}
