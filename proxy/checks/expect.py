"""What a case of the golden file expects of an answer; everything that it names must hold.

Patterns run on RE2, in time linear in the answer. Schemas are JSON Schema (draft 2020-12), whose references stay within
the schema: nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Self

from policies.comparison import Answer
from proxy.patterns import Haystack, Pattern, compile_pattern

__all__ = ["Expectation"]

_MEMBERS: Final = ("contains", "lacks", "equals", "regex", "json_schema", "tool_call", "rubric")
_VALUES: Final = frozenset(("const", "enum", "default", "examples"))
"""Members of a schema that hold values, not schemas."""
_BY_NAME: Final = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
"""Members that hold schemas by name."""
_LONGEST_JSON: Final = 1 << 20
"""Characters of an answer that is held against a schema."""
_NAMED: Final = 5
_LONGEST_NAME: Final = 64
"""So many tools that were called are named in a complaint, and so much of each name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Read, and found right."""

    contains: tuple[str, ...] = ()
    """Texts that all stand in the words of the answer."""
    lacks: tuple[str, ...] = ()
    """Texts of which none does."""
    equals: str | None = None
    """The words of the answer, up to white space at both ends."""
    patterns: tuple[Pattern, ...] = ()
    schema: Any = None
    """A validator; the words of the answer are JSON that fits."""
    tool: str | None = None
    """Name of a tool that is called."""
    arguments: Mapping[str, Any] | None = None
    """Arguments that the call has, among others."""
    rubric: str | None = None
    """What a judge goes by; it passes with a score of 0.5."""

    @classmethod
    def of(cls, document: Any) -> Self:
        """Read a JSON value. Raises ValueError, which begins with the field."""
        if not isinstance(document, dict) or not document:
            raise ValueError(f"expect: missing; give at least one of {', '.join(_MEMBERS)}")
        for name in document:
            if name not in _MEMBERS:
                raise ValueError(f"expect.{name}: there is no such check; there are {', '.join(_MEMBERS)}")
        tool, arguments = _tool(document.get("tool_call"))
        found = cls(
            contains=_texts(document.get("contains"), "contains"),
            lacks=_texts(document.get("lacks"), "lacks"),
            equals=_text(document.get("equals"), "equals"),
            patterns=tuple(_pattern(source) for source in _texts(document.get("regex"), "regex")),
            schema=_schema(document["json_schema"]) if "json_schema" in document else None,
            tool=tool,
            arguments=arguments,
            rubric=_text(document.get("rubric"), "rubric"),
        )
        if found == cls():
            raise ValueError(f"expect: nothing is expected; give a value for at least one of {', '.join(_MEMBERS)}")
        return found

    def complaints(self, answer: Answer) -> tuple[str, ...]:
        """What does not hold, in words that quote the expectation and not the answer; the rubric is the judge's."""
        if answer.failed is not None:
            return ("there was no answer",)
        return tuple(self._complaints(answer))

    def _complaints(self, answer: Answer) -> Iterator[str]:
        words = answer.words
        yield from (f"does not contain {json.dumps(text)}" for text in self.contains if text not in words)
        yield from (f"contains {json.dumps(text)}" for text in self.lacks if text in words)
        if self.equals is not None and words.strip() != self.equals.strip():
            yield f"is not {json.dumps(self.equals)}"
        hay = Haystack(words) if self.patterns else None
        for pattern in self.patterns:
            if hay is not None and not pattern.found_in(hay):
                yield f"does not match {pattern.source}"
        if self.schema is not None and (wrong := _misfit(self.schema, words)) is not None:
            yield wrong
        if self.tool is not None and not any(self._is_called(call.name, call.arguments) for call in answer.calls):
            expected = " as expected" if self.arguments is not None else ""
            yield f"does not call {self.tool}{expected}; it calls {_named(call.name for call in answer.calls)}"

    def _is_called(self, name: str, arguments: str) -> bool:
        if name != self.tool:
            return False
        if self.arguments is None:
            return True
        try:
            given = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return False
        missing = object()
        return isinstance(given, dict) and all(given.get(key, missing) == one for key, one in self.arguments.items())


def _named(names: Iterable[str]) -> str:
    """The first few of them: a model may call what it likes, as often as it likes."""
    several = list(islice(dict.fromkeys(names), _NAMED + 1))
    shown = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in several[:_NAMED]]
    return ", ".join((*shown, *(("and more",) if len(several) > _NAMED else ()))) or "no tool"


def _text(value: Any, name: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ValueError(f"expect.{name}: not a text")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"expect.{name}: neither a text nor a list of texts")
    return tuple(texts)


def _pattern(source: str) -> Pattern:
    try:
        return compile_pattern(source)
    except ValueError as exc:
        raise ValueError(f"expect.regex: {json.dumps(source)} {exc}") from exc


def _tool(value: Any) -> tuple[str | None, Mapping[str, Any] | None]:
    if value is None or (isinstance(value, str) and value):
        return value, None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or set(value) - {"name", "arguments"}:
        raise ValueError('expect.tool_call: write the name of a tool, or {"name": …, "arguments": {…}}')
    arguments = value.get("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise ValueError("expect.tool_call.arguments: not a JSON object")
    return value["name"], arguments


def _schema(document: Any) -> Any:
    """A validator that fetches nothing and whose patterns run in linear time."""
    from jsonschema import Draft202012Validator, SchemaError  # only where somebody has schemas
    from jsonschema.validators import extend
    from referencing import Registry

    if not isinstance(document, dict | bool):
        raise ValueError("expect.json_schema: not a JSON schema, which is an object")
    try:
        Draft202012Validator.check_schema(document)
    except SchemaError as exc:
        place = "/".join(str(part) for part in exc.absolute_path)
        raise ValueError(f"expect.json_schema: {exc.message}{f' (at {place})' if place else ''}") from exc
    for reference in _references_in(document):
        if not _is_within(reference, document):
            said = f"$ref {json.dumps(reference)} leads out of the schema, and nothing is fetched"
            raise ValueError(f'expect.json_schema: {said}; write what it means under "$defs", and "#/$defs/…" here')
    linear: Any = extend(Draft202012Validator, {"pattern": _linear_pattern, "patternProperties": _linear_properties})
    for source in _patterns_in(document):
        try:
            compile_pattern(source)
        except ValueError as exc:
            raise ValueError(f"expect.json_schema: {json.dumps(source)} {exc}") from exc
    return linear(document, registry=Registry())


def _references_in(schema: Any, *, named: bool = False) -> Iterator[str]:
    """References of a schema and its parts. `named`: its members are names of one's own, as of properties."""
    if isinstance(schema, dict):
        if not named:
            yield from (said for name in ("$ref", "$dynamicRef") if isinstance(said := schema.get(name), str))
        for name, part in schema.items():
            if named or name not in _VALUES:
                yield from _references_in(part, named=not named and name in _BY_NAME)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references_in(part)


def _is_within(reference: str, document: Any) -> bool:
    """Whether it names a part of the document: by a fragment, or by an `$id` that stands in it."""
    address = reference.partition("#")[0]
    return not address or address in _ids_in(document)


def _ids_in(schema: Any) -> Iterator[str]:
    parts: list[Any] = list(schema.values()) if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    if isinstance(schema, dict) and isinstance(said := schema.get("$id"), str):
        yield said.removesuffix("#")
    for part in parts:
        yield from _ids_in(part)


def _patterns_in(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(source := schema.get("pattern"), str):
            yield source
        if isinstance(several := schema.get("patternProperties"), dict):
            yield from several
        for part in schema.values():
            yield from _patterns_in(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _patterns_in(part)


_compiled = lru_cache(maxsize=256)(compile_pattern)


def _linear_pattern(_validator: Any, source: str, instance: Any, _schema: Any) -> Iterator[Exception]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not _compiled(source).found_in(Haystack(instance)):
        yield ValidationError(f"does not match {source}")


def _linear_properties(validator: Any, several: Mapping[str, Any], instance: Any, _schema: Any) -> Iterator[Exception]:
    if not isinstance(instance, dict):
        return
    for source, schema in several.items():
        pattern = _compiled(source)
        for name, value in instance.items():
            if pattern.found_in(Haystack(name)):
                yield from validator.descend(value, schema, path=name, schema_path=source)


def _misfit(validator: Any, words: str) -> str | None:
    """Where the words are not JSON as the schema has it; of the answer only names of members are quoted."""
    if len(words) > _LONGEST_JSON:
        return "is too long to be held against the schema"
    try:
        value = json.loads(words)
    except (ValueError, RecursionError):
        return "is not JSON"
    try:
        wrong = next(iter(validator.iter_errors(value)), None)
    except Exception as exc:  # noqa: BLE001 - a reference that leads nowhere, or in a circle
        return f"cannot be held against the schema ({type(exc).__name__})"
    if wrong is None:
        return None
    place = "/".join(str(part) for part in wrong.absolute_path)[:_LONGEST_NAME] or "the whole"
    return f"does not fit the schema: {place} fails {wrong.validator}"
