"""Reading the configuration: file, then environment, then command line; the last one wins.

TOML and JSON have the same structure, so the quick start's own `config.json` works as it stands. Every problem
is reported at once, each with its full key path and the remedy. What a value means is in `model.py`, what may
not be combined in `checks.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from proxy.config.checks import contradictions
from proxy.config.masks import MASK, without_secrets
from proxy.config.model import Config
from proxy.config.parse import OLD_PATHS, Key, Problem, from_text, keys, nearest, parse_table
from proxy.errors import ConfigError

__all__ = ["ENV_PREFIX", "fingerprint", "load_config", "load_document", "old_names", "origins_of", "parse_as", "parse_config", "public_document",
           "read_document", "secrets_in"]  # fmt: skip

T = TypeVar("T")
ENV_PREFIX: Final = "RATCHET_"
_FREE: Final = ("trainer", "deployer", "judge", "store")
"""Tables with commands, options and urls in which people write secrets."""


def load_config(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The configuration from the file `path`, `environ` (RATCHET_SERVER__PORT=9000) and `overrides` ("server.port": 9000).

    An override of None counts as not given. Secrets named by a `*_file` key are read. Raises ConfigError.
    """
    data = read_document(Path(path)) if path is not None else {}
    return load_document(data, overrides, environ, source=str(path or "configuration"))


def old_names(
    path: str | Path | None, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Settings that `load_config` would find under a name that they no longer have, with the name of now."""
    data = read_document(Path(path)) if path is not None else {}
    given = {*(overrides or {}), *(name.removeprefix(ENV_PREFIX).lower().replace("__", ".") for name in environ or {})}
    return {old: new for old, new in OLD_PATHS.items() if old in given or _get(data, old) is not None}


def origins_of(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Where `load_config` would find each setting, by path: the file, a variable's name, the command line, or the file
    of a secret. What is not in it has its default. Raises ConfigError where the file cannot be read."""
    known = {key.path: key for key in keys(Config)}
    data = read_document(Path(path)) if path is not None else {}
    found = {dotted: str(path) for dotted in known if _has(data, dotted)}
    found |= {new: str(path) for old, new in OLD_PATHS.items() if _has(data, old)}
    found |= {key.path: name for key, name, _ in _from_environment(environ or {}, [])}
    found |= {
        OLD_PATHS.get(given, given): "command line" for given, value in (overrides or {}).items() if value is not None
    }
    secrets = {dotted: f"{dotted}_file" for dotted in known if f"{dotted}_file" in found}
    return found | {dotted: named for dotted, named in secrets.items() if dotted not in found}


def load_document(
    data: dict[str, Any],
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    source: str = "configuration",
) -> Config:
    """As `load_config`, from what a file held; `data` is filled with what the environment and `overrides` add."""
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    for key, name, text in _from_environment(environ or {}, problems):
        if key.path in origins:
            problems.append(Problem(name, f"is the same setting as {origins[key.path]}; keep one of the two"))
            continue
        _override(data, key.path, from_text(key.hint, text))
        origins[key.path] = name
    for given, value in (overrides or {}).items():
        dotted = OLD_PATHS.get(given, given)
        if value is not None:
            _override(data, dotted, value)
            origins[dotted] = "command line"
    _read_secrets(data, problems)
    return _finish(Config, data, problems, source=source, origins=origins)


def parse_config(data: Mapping[str, Any], *, source: str = "configuration") -> Config:
    """The configuration in plain `data`, as TOML or JSON give it. Reads no file. Raises ConfigError naming `source`."""
    return parse_as(Config, data, source=source)


def parse_as(cls: type[T], data: Mapping[str, Any], *, source: str = "configuration") -> T:
    """`data` as the settings dataclass `cls` (Config, or the library's LoopConfig), checked alike."""
    return _finish(cls, data, [], source=source, origins={})


def public_document(config: Any) -> dict[str, Any]:
    """`config` as plain data with every secret masked: for the store, the console and `check-config`."""
    secrets = {key.path for key in keys(type(config)) if key.secret}

    def mask(table: dict[str, Any], prefix: str) -> dict[str, Any]:
        return {
            name: mask(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else (MASK if value is not None and prefix + name in secrets else value)
            for name, value in table.items()
        }

    document = mask(dataclasses.asdict(config), "")
    document |= {name: without_secrets(document[name]) for name in _FREE if name in document}
    if "notify" in document:  # a receiver's key stands in its path or query
        document["notify"]["urls"] = [_host_alone(url) for url in document["notify"]["urls"]]
    return document


def _host_alone(url: str) -> str:
    return re.sub(r"(?<=[^:/])[/?#].+", f"/{MASK}", url)


def fingerprint(config: Any) -> str:
    """16 hexadecimal digits that change whenever a setting does. Secrets count only as given or not given."""
    canonical = json.dumps(public_document(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _finish(
    cls: type[T], data: Mapping[str, Any], problems: list[Problem], *, source: str, origins: Mapping[str, str]
) -> T:
    config = parse_table(cls, data, problems)
    broken = {problem.path for problem in problems}
    problems += [problem for problem in contradictions(config) if problem.path not in broken]
    if problems:
        raise ConfigError(_report(source, problems, origins))
    return config


def _report(source: str, problems: list[Problem], origins: Mapping[str, str]) -> str:
    lines = [
        f"{problem} (from {origin})" if (origin := origins.get(problem.path)) else str(problem) for problem in problems
    ]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return "\n  ".join([f"{source}: {count}", *lines])


def read_document(path: Path) -> dict[str, Any]:
    """The tables in a TOML or JSON file, unchecked. Raises ConfigError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read ({exc}); give the path of a TOML or JSON file") from exc
    try:
        if path.suffix == ".json" or text.lstrip().startswith("{"):
            data = json.loads(text, object_pairs_hook=_once)
        else:
            data = tomllib.loads(text)
    except ValueError as exc:
        raise ConfigError(f"{path}: not valid {'JSON' if path.suffix == '.json' else 'TOML'} ({exc})") from exc
    except RecursionError:
        raise ConfigError(f"{path}: lists or tables stand in each other too deeply; no setting needs that") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds a {type(data).__name__}, not an object with the configuration's tables")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different; a repeated key is nearly always an edit gone wrong."""
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r} appears twice in one object"
        )
    return table


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> list[tuple[Key, str, str]]:
    """Settings among the variables: RATCHET_<TABLE>__<KEY>. Other RATCHET_ names without `__` are not ours to judge."""
    known = {key.path: key for key in keys(Config)}
    found = []
    for name, text in environ.items():
        if not name.startswith(ENV_PREFIX):
            continue
        path = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if (key := known.get(OLD_PATHS.get(path, path))) is not None:
            found.append((key, name, text))
        elif "." in path:
            near = nearest(path, known)
            remedy = f"; did you mean {ENV_PREFIX}{near.upper().replace('.', '__')}?" if near else "; unset it"
            problems.append(Problem(name, f"the environment variable names no setting{remedy}"))
    return found


def secrets_in(path: Path) -> list[str]:
    """The secrets that stand in this file themselves, by name. Raises ConfigError where it cannot be read."""
    data = read_document(path)
    return sorted(key.path for key in keys(Config) if key.secret and _get(data, key.path))


def _put(data: dict[str, Any], dotted: str, value: Any) -> None:
    *tables, name = dotted.split(".")
    for table in tables:
        inner = data.get(table)
        if not isinstance(inner, dict):
            inner = data[table] = {}
        data = inner
    data[name] = value


def _override(data: dict[str, Any], dotted: str, value: Any) -> None:
    """Put it in the place of whatever a weaker source said, under the old name too."""
    for old, new in OLD_PATHS.items():
        table, _, name = old.rpartition(".")
        if new == dotted and isinstance(inner := _get(data, table), dict):
            inner.pop(name, None)
    _put(data, dotted, value)


def _get(data: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _has(data: Any, dotted: str) -> bool:
    for part in dotted.split("."):
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def _read_secrets(data: dict[str, Any], problems: list[Problem]) -> None:
    """For each key `x` with a sibling `x_file` that is set: the file's content, without its final line break."""
    known = {key.path for key in keys(Config)}
    for path in sorted(known):
        file = _get(data, f"{path}_file")
        if f"{path}_file" not in known or not isinstance(file, str):
            continue
        if _get(data, path) is not None:
            message = f"is set, and so is {path}; keep one of the two"
            problems.append(Problem(f"{path}_file", message))
            continue
        try:
            secret = Path(file).expanduser().read_text(encoding="utf-8-sig").rstrip("\r\n")
        except (OSError, ValueError, RuntimeError) as exc:  # also: no text; no such user's home
            message = f'"{file}" cannot be read ({exc}); check the path and its permissions'
            problems.append(Problem(f"{path}_file", message))
            continue
        if secret:
            _put(data, path, secret)
        else:
            problems.append(Problem(f"{path}_file", f'"{file}" is empty; write it there'))
