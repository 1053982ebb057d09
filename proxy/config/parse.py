"""From plain data (what TOML and JSON give) to the settings' dataclasses, with every problem at once.

A small parser of our own instead of pydantic's: building pydantic's validators costs 0.6 s of every start,
more than everything else that has to happen before the first request, and half of it would be rewriting its
messages. The dataclasses use nine shapes of type and no others; `coerce` reads like the list of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from policies.intervals import Interval
from policies.selection import RENAMED, DataGeneratorConfig
from proxy.config.literal import show
from proxy.config.masks import without_secrets
from proxy.config.model import Config

__all__ = ["OLD_PATHS", "Key", "Problem", "ValueForm", "from_text", "hints", "keys", "nearest", "optional",
           "parse_table"]  # fmt: skip

T = TypeVar("T")
ValueForm: TypeAlias = Callable[[Any], str | None]
"""What is wrong with a value (see `proxy.config.forms`)."""
OLD_PATHS: Final = {f"generator_config.{old}": f"generator_config.{new}" for old, new in RENAMED.items()}
"""Settings under the names that they had before; they are still read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration."""

    path: str
    """The key, dotted from the top, e.g. `server.port`; empty for the file as a whole."""
    message: str
    """Value, why it cannot be used, and what to write instead."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One setting: where it is, what it takes, what it is when nobody says."""

    path: str
    hint: Any
    """The resolved annotation, e.g. `int` or `str | None`."""
    default: Any
    secret: bool
    """Whether its value must never be printed."""
    owner: type
    """The dataclass that declares it."""
    rules: tuple[Interval | ValueForm, ...] = ()
    """What its declaration asks for: a range of numbers, or a form of text."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


class _WrongTypeError(ValueError):
    """The value has the wrong type; the text says what was expected."""


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Resolved annotations of the fields of the dataclass `cls`, in the order of declaration."""
    return {name: get_args(hint)[0] if get_origin(hint) is Annotated else hint for name, hint in _declared(cls).items()}


@functools.cache
def _declared(cls: type) -> dict[str, Any]:
    """The same with what stands beside the type."""
    resolved = get_type_hints(cls, include_extras=True)
    return {field.name: resolved[field.name] for field in dataclasses.fields(cls)}


def keys(cls: type, prefix: str = "") -> Iterator[Key]:
    """Every setting of the dataclass `cls`, nested tables included."""
    for field in dataclasses.fields(cls):
        hint = hints(cls)[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from keys(hint, f"{prefix}{field.name}.")
        else:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            secret = bool(field.metadata.get("secret"))
            rules = getattr(_declared(cls)[field.name], "__metadata__", ())
            yield Key(path=prefix + field.name, hint=hint, default=default, secret=secret, owner=cls, rules=rules)


def parse_table(cls: type[T], data: Mapping[str, Any], problems: list[Problem], prefix: str = "") -> T:
    """`data` as the dataclass `cls`; what cannot be used is added to `problems` and left at its default."""
    known: dict[str, Any] = hints(cls)  # type: ignore[arg-type]
    secrets = {field.name for field in dataclasses.fields(cls) if field.metadata.get("secret")}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for given, value in data.items():
        name = RENAMED.get(given, given) if cls is DataGeneratorConfig else given
        path = prefix + str(name)
        if name != given and name in data:
            problems.append(Problem(prefix + given, f"is now called {name}, and both are given; keep {name}"))
            continue
        hint = known.get(name)
        if hint is None:
            problems.append(Problem(path, f"unknown key{_suggestion(name, known, prefix)}"))
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if isinstance(value, Mapping):
                values[name] = parse_table(hint, value, problems, f"{path}.")
            else:
                message = f"{show(value)} is not a table; write [{path}] and its keys below"
                problems.append(Problem(path, message))
        else:
            try:
                values[name] = coerce(hint, value)
            except _WrongTypeError as exc:
                shown = "the value" if name in secrets else show(without_secrets(value))
                problems.append(Problem(path, f"{shown} is not {exc}{_example(cls, name)}"))
    return cls(**values)


def coerce(hint: Any, value: Any) -> Any:
    """`value` as the type `hint`; raises with what was expected."""
    if (inner := optional(hint)) is not None:
        if value is None or (inner is not str and value == "none"):
            return None
        return coerce(inner, value)
    origin = get_origin(hint)
    if origin is Literal:
        if value in get_args(hint) and isinstance(value, str):
            return value
        raise _WrongTypeError(f"one of {', '.join(get_args(hint))}{_close(value, get_args(hint))}")
    if origin is tuple:
        return _list(get_args(hint)[0], value)
    if origin is dict:
        if isinstance(value, Mapping) and all(isinstance(item, str) for pair in value.items() for item in pair):
            return dict(value)
        raise _WrongTypeError("a table of texts")
    return _scalar(hint, value)


def _list(hint: Any, value: Any) -> tuple[Any, ...]:
    """A list of texts, of some words out of a few, of whole numbers, or of numbers, of which one may stand alone."""
    expected = _LISTS.get(hint, "a list of texts")
    if get_origin(hint) is Literal:
        expected = f"a list of some of {', '.join(get_args(hint))}"
    if hint is float and isinstance(value, int | float):
        value = [value]
    if not isinstance(value, list | tuple):
        raise _WrongTypeError(expected)
    try:
        return tuple(coerce(hint, item) for item in value)
    except _WrongTypeError:
        raise _WrongTypeError(expected) from None


_LISTS: Final = {int: "a list of whole numbers", float: "a number, or a list of numbers"}


def _scalar(hint: Any, value: Any) -> Any:
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
        if hint is float:
            return float(value)
        if hint is int and float(value).is_integer():
            return int(value)
    raise _WrongTypeError(_EXPECTED[hint])


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more digits than any float has
        return False


_EXPECTED: Final = {bool: "true or false", str: "a text in quotes", float: "a number", int: "a whole number"}


def optional(hint: Any) -> Any | None:
    """The X of `X | None`, or None for any other type."""
    if get_origin(hint) not in (Union, types.UnionType):
        return None
    inner = [arg for arg in get_args(hint) if arg is not type(None)]
    return inner[0]


def from_text(hint: Any, text: str) -> Any:
    """What the environment variable's or option's `text` means for a key of type `hint`.

    Text that means nothing there is returned as it is: the parser then says what it wanted.
    """
    if (inner := optional(hint)) is not None:
        return None if text.lower() in ("", "none") else from_text(inner, text)
    if hint is bool:
        return _SWITCH.get(text.lower(), text)
    origin = get_origin(hint)
    if origin is tuple:
        if text.lstrip().startswith("["):
            return _json(text)
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [from_text(get_args(hint)[0], part) for part in parts]
    if origin is dict or hint in (int, float):
        return _json(text)
    return text


_SWITCH: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _example(cls: type, name: str) -> str:
    key = next(key for key in keys(cls) if key.path == name)
    if key.secret or key.default in (None, ""):
        return ""
    if key.default == ():
        return f'; a list is written {name} = ["…", "…"]'
    if key.default == {}:
        return f'; a table is written {name} = {{"…" = "…"}}'
    return f"; for example {name} = {show(key.default)}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that `name` was probably meant to be, or None."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)), None)


def _close(value: Any, names: tuple[str, ...]) -> str:
    near = nearest(str(value), names)
    return f"; did you mean {near}?" if near else ""


def _suggestion(name: Any, known: Mapping[str, Any], prefix: str) -> str:
    """Where the author of an unknown key probably wanted to go: a sibling, or the same name elsewhere."""
    near = nearest(str(name).lower().replace("-", "_"), known)
    if near:
        return f"; did you mean {prefix}{near}?"
    elsewhere = [key.path for key in keys(Config) if key.name == name]
    if elsewhere:
        above = ", which stands above all [tables]" if prefix and "." not in elsewhere[0] else ""
        return f"; did you mean {' or '.join(elsewhere[:3])}{above}?"
    return f"; known here: {', '.join(known)}" if len(known) <= 20 else "; see config.example.toml for every key"
