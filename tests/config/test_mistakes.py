"""Every mistake stops the start, all of them at once, each with its key, the value, the reason and the remedy."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.intervals import Interval
from proxy.config import Config, check_serving, parse_config
from proxy.config.parse import Key, keys, optional
from proxy.errors import ConfigError


def nested(path: str, value: Any) -> dict[str, Any]:
    """`value` at the dotted `path`, as plain data."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"server": {"prt": 1}}, "server.prt: unknown key; did you mean server.port?"),
        ({"champion": {"check_interval_seconds": 1}}, "mean check_interval_seconds, which stands above all [tables]?"),
        ({"deployer": {"command": "python x"}}, '"python x" is not a list of texts; a list is written command = ["…"'),
        ({"port": 1}, "port: unknown key; did you mean server.port or admin.port?"),
        ({"ab_test_config": {"guardrails": {"zz": 1}}}, "ab_test_config.guardrails.zz: unknown key"),
        ({"server": {"port": "80"}}, 'server.port: "80" is not a whole number; for example port = 8080'),
        ({"server": {"port": True}}, "server.port: true is not a whole number"),
        ({"server": {"port": 80.5}}, "server.port: 80.5 is not a whole number"),
        ({"server": {"port": 10**400}}, "server.port: 0x"),
        ({"server": {"drain_seconds": 16**5000}}, "… is not a number; for example drain_seconds = 30"),
        ({"server": {"tls_cert_file": "a\0b"}}, "server.tls_cert_file: \"a\0b\" has a NUL character in it"),
        ({"champion": {"ca_file": "~nobody-here/x"}}, '"~nobody-here/x" is in the home of a user who is not known'),
        ({"server": {"data_dir": "~nobody-here/x"}}, "server.data_dir: "),
        (
            {"generator_config": {"exclude": ["title", "a("]}},
            'generator_config.exclude: number 2, "a(" is not a regular expression (missing ), unterminated subpattern '
            "at position 1)",
        ),
        ({"server": 7}, "server: 7 is not a table; write [server] and its keys below"),
        ({"server": {"host": None}}, "server.host: null is not a text in quotes"),
        ({"enable_ab_testing": "yes"}, 'enable_ab_testing: "yes" is not true or false'),
        ({"check_interval_seconds": float("nan")}, "check_interval_seconds: nan is not a number"),
        ({"check_interval_seconds": 0}, "check_interval_seconds: 0 is too small (seconds); write more than 0"),
        ({"sticky": {"headers": "x-user"}}, 'sticky.headers: "x-user" is not a list of texts'),
        ({"gateway": {"fallback_statuses": ["404"]}}, 'fallback_statuses: ["404"] is not a list of whole numbers'),
        ({"gateway": {"fallback_statuses": 404}}, "gateway.fallback_statuses: 404 is not a list of whole numbers"),
        ({"gateway": {"fallback_statuses": [404, 503]}}, "gateway.fallback_statuses: 503 is not a status of a refusal"),
        ({"gateway": {"fallback_statuses": [0]}}, "gateway.fallback_statuses: 0 is not a status of a refusal"),
        ({"trainer": {"options": {"a": 1}}}, "trainer.options: {'a': 1} is not a table of texts"),
        ({"feedback": {"anonymous": ["thumbs"]}}, "is not a list of some of thumb, score, correction"),
        ({"spool": {"fsync": "allways"}}, "is not one of interval, always, never; did you mean always?"),
        ({"ab_test_config": {"initial_challenger_traffic": 1.5}},
         "ab_test_config.initial_challenger_traffic: 1.5 is too large (a share of users, 0 to 1"),
        ({"ab_test_config": {"min_duration_hours": 800}},
         "is more than max_duration_hours (720); no experiment could end"),
        ({"ab_test_config": {"quality_weight": 0, "feedback_weight": 0, "latency_weight": 0}},
         "all three weights are 0"),
        ({"generator_config": {"include_existing_data": True}}, "existing_data_path is not set"),
        ({"server": {"tls_cert_file": "a.pem"}}, "server.tls_key_file: not set, although tls_cert_file is"),
        ({"server": {"data_dir": ""}}, "server.data_dir: empty"),
        ({"capture": {"task_patterns": ["a", "("]}}, 'capture.task_patterns: "(" is not a regular expression'),
        ({"capture": {"task_patterns": [""]}}, 'capture.task_patterns: "" matches every text'),
        ({"capture": {"task_patterns": ["a", "(?s).*"]}}, "matches every text; remove it"),
        ({"generator_config": {"exclude": ["^$", "a*"]}}, 'exclude: number 2, "a*" matches every text'),
        ({"capture": {"task_headers": ["x task"]}}, 'capture.task_headers: "x task"'),
        ({"capture": {"task_headers": ["Authorization"]}}, 'task_headers: "Authorization" carries a credential'),
        ({"capture": {"task_headers": ["x-key"]}, "champion": {"api_key_header": "X-Key"}},
         'task_headers: "x-key" carries a credential'),
        ({"capture": {"task_headers": ["X-User-Id"]}}, 'capture.task_headers: "X-User-Id" names users'),
        ({"capture": {"task_headers": ["x-portkey-metadata"]}}, "capture.task_headers: "),
        ({"admin": {"host": "0.0.0.0"}}, 'admin.host: "0.0.0.0" can be reached from other machines'),
        ({"admin": {"host": "0.0.0.0", "token": ""}}, "admin.host: "),
        ({"admin": {"host": "example.com"}}, "admin.host: "),
        ({"admin": {"host": "0.0.0.0", "token": "a"}}, "admin.token: has 1 characters"),
        ({"admin": {"host": "0.0.0.0", "token": "t" * 15}}, "fewer than 16 can be guessed"),
        ({"admin": {"token": "short"}, "server": {"host": "0.0.0.0"}}, '"0.0.0.0" can be reached from other machines'),
        ({"admin": {"enabled": False, "token": "short"}, "server": {"host": "0.0.0.0"}}, "admin.token: has 5"),
        ({"feedback": {"token": "short"}, "server": {"host": "::"}}, "feedback.token: has 5 characters"),
        ({"admin": {"metrics_need_token": True}}, "admin.metrics_need_token: true, but there is no admin.token"),
        ({"admin": {"port": 8080}}, "admin.port: 8080 is server.port, too"),
        ({"admin": {"token": "a b\n"}}, "admin.token: has spaces around it"),
        ({"admin": {"token": 5}}, "admin.token: the value is not a text"),
        ({"spool": {"max_bytes": 65536}}, "spool.segment_bytes: 67108864 is more than spool.max_bytes (65536)"),
        ({"champion": {"url": "localhost:8000"}}, "champion.url: "),
        ({"champion": {"url": "http://h:x"}}, "champion.url: "),
        ({"champion": {"url": "http://h:"}}, "ends its host with a colon"),
        ({"champion": {"url": "http://localhost:8080"}}, "is Ratchet's own address (server.port)"),
        ({"champion": {"url": "http://127.0.0.1:8081/v1"}}, "is Ratchet's own address (admin.port)"),
        ({"champion": {"url": "http://[::1]:9"}, "server": {"host": "0.0.0.0", "port": 9}}, "is Ratchet's own address"),
        ({"champion": {"url": "http://h/?a=1"}}, "has a query or fragment"),
        ({"champion": {"url": "http://h/\u00fc"}}, "has a path with letters"),
        ({"champion": {"url": "http://h..x/"}}, "has a host that cannot be"),
        ({"champion": {"url": "http://h", "api_key_header": "Content-Length"}}, "is needed by HTTP itself"),
        ({"champion": {"url": "http://u:p@h"}}, "has a user name or password in it"),
        ({"champion": {"api_key_header": "x key"}}, "champion.api_key_header: \"x key\" is not a header name"),
        ({"sticky": {"headers": ["x-user-id", "x meta#user"]}}, "sticky.headers: \"x meta\" is not a header name"),
        ({"sticky": {"conversation_headers": ["x-meta#"]}}, "sticky.conversation_headers: \"x-meta#\" names no member"),
        ({"notify": {"urls": ["ftp://h"]}}, "notify.urls: "),
        ({"notify": {"urls": ["http://h"], "kinds": ["slack", "teams"]}}, "notify.kinds: has 2 entries for 1"),
        ({"notify": {"urls": ["http://h"], "kinds": ["slak"]}}, "notify.kinds: "),
        ({"notify": {"console_url": "ratchet.example.com"}}, "notify.console_url: "),
        ({"feedback": {"cors_origins": ["chat.example.com"]}}, "feedback.cors_origins: "),
        ({"feedback": {"cors_origins": ["https://chat.example.com/"]}}, "feedback.cors_origins: "),
        ({"capture": {"redaction": {"patterns": ["("]}}},
         "capture.redaction.patterns: \"(\" is not a regular expression"),
        ({"capture": {"redaction": {"patterns": ["(?=a)b"]}}}, 'capture.redaction.patterns: "(?=a)b" looks around'),
        ({"capture": {"redaction": {"patterns": ["(?=a)b"]}}}, 'or set capture.redaction.engine = "python"'),
        ({"capture": {"redaction": {"patterns": ["("], "engine": "python"}}}, '"(" is not a regular expression'),
        ({"capture": {"redaction": {"deadline_seconds": 0}}}, "capture.redaction.deadline_seconds: 0 is too small"),
        ({"capture": {"task_patterns": ["(a)\\1"]}}, "refers back to a group"),
        ({"generator_config": {"exclude": ["(?<!a)b"]}}, "looks around"),
        ({"capture": {"redaction": {"callable": "module"}}}, "is not of the form package.module:function"),
        ({"capture": {"query_pointers": ["a"]}}, "capture.query_pointers: \"a\" is not a JSON pointer"),
        ({"capture": {"skip_paths": ["health"]}}, "capture.skip_paths: \"health\" is not a path"),
        ({"store": {"url": "mysql://u:p@h/d"}}, "store.url: is neither sqlite:///"),
        ({"trainer": {"kind": "callable"}}, "trainer.callable: not set, although trainer.kind is callable"),
        ({"trainer": {"kind": "command"}}, "trainer.command: not set"),
        ({"trainer": {"kind": "http"}}, "trainer.url: not set"),
        ({"deployer": {"kind": "command"}}, "deployer.command: not set"),
        ({"deployer": {"kind": "vllm_lora"}}, "deployer.url: not set"),
    ],
)  # fmt: skip
def test_the_message_names_key_value_reason_and_remedy(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_config(data)


@pytest.mark.parametrize(
    "data",
    [
        {"admin": {"host": "0.0.0.0", "token": "t" * 16}},
        {"admin": {"host": "0.0.0.0", "enabled": False}},
        {"admin": {"token": "short"}, "feedback": {"token": "short"}},
        {"admin": {"host": "127.0.0.2"}},
        {"admin": {"host": "::1", "port": 8080}},
        {"server": {"port": 0}, "admin": {"port": 0}},
        {"deployer": {"kind": "vllm_lora", "urls": ["http://a", "http://b"]}},
        {"notify": {"urls": ["https://hooks.example.com/x?token=1"]}},
        {"feedback": {"cors_origins": ["*", "http://localhost:3000"]}},
        {"server": {"port": 9000.0}},
        {"generator_config": {"min_quality_score": "none", "max_samples": None}},
        {"store": {"url": "postgresql://u:p@h/d"}},
    ],
)
def test_what_is_sound_passes(data: dict[str, Any]) -> None:
    assert isinstance(parse_config(data), Config)


def test_all_problems_are_reported_at_once_under_the_files_name() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"server": {"prt": 1, "port": "x"}, "ab_test_config": {"alpha": 2}}, source="ratchet.toml")
    head, *problems = str(caught.value).split("\n")
    assert head == "ratchet.toml: 3 problems"
    assert [line.split(":")[0].strip() for line in problems] == ["server.prt", "server.port", "ab_test_config.alpha"]


def test_a_secret_never_appears_in_a_message() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"admin": {"token": "hunter2 "}, "store": {"url": "mysql://u:hunter2@h/d"}})
    assert "hunter2" not in str(caught.value)


def test_serving_needs_a_champion() -> None:
    with pytest.raises(ConfigError, match=r"champion\.url: not set.*--champion"):
        check_serving(parse_config({}))
    check_serving(parse_config({"champion": {"url": "http://127.0.0.1:8000"}}))


def range_of(key: Key) -> Interval:
    return next(rule for rule in key.rules if isinstance(rule, Interval))


NUMBERS = [key for key in keys(Config) if (optional(key.hint) or key.hint) in (int, float)]


def test_every_number_is_declared_with_its_range() -> None:
    ranged = [key.path for key in keys(Config) if any(isinstance(rule, Interval) for rule in key.rules)]
    several = [key.path for key in keys(Config) if key.hint == tuple[float, ...]]
    assert sorted(ranged) == sorted([*several, *(key.path for key in NUMBERS)])


def test_each_number_of_a_list_has_to_be_in_its_range() -> None:
    for wrong in ([0.1, 1.0], [0.0], [0.1, "x"]):
        with pytest.raises(ConfigError, match=r"ab_test_config\.stages"):
            parse_config(nested("ab_test_config.stages", wrong))
    assert parse_config(nested("ab_test_config.stages", [0.1, 0.5])).ab_test_config.stages == (0.1, 0.5)


@pytest.mark.parametrize("key", NUMBERS, ids=lambda key: key.path)
def test_each_range_is_enforced_at_its_ends_and_holds_the_default(key: Key) -> None:
    interval = range_of(key)
    low = float(interval.text[1:-1].split(",")[0])
    with pytest.raises(ConfigError, match=re.escape(f"{key.path}: ")):
        parse_config(nested(key.path, low if interval.text[0] == "(" else low - 1))
    assert key.default is None or interval.remedy(key.default) is None


@given(value=st.floats(allow_nan=False))
def test_an_interval_contains_what_its_notation_says(value: float) -> None:
    assert (Interval("(0, 1]", "m").remedy(value) is None) == (0 < value <= 1)
    assert (Interval("[0, 1)", "m").remedy(value) is None) == (0 <= value < 1)
    assert (Interval("[0, inf)", "m").remedy(value) is None) == (value >= 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(path=st.sampled_from([key.path for key in keys(Config)]), value=json_values)
def test_any_value_anywhere_is_accepted_or_refused_by_name_but_never_crashes(path: str, value: object) -> None:
    problem = _problem(nested(path, value))
    assert problem is None or path.split(".")[0] in problem


def _problem(data: dict[str, Any]) -> str | None:
    try:
        assert dataclasses.is_dataclass(parse_config(data))
    except ConfigError as exc:
        return str(exc)
    return None
