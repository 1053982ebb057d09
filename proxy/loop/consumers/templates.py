"""Chat templates: a conversation is rendered as a trainer would, and what comes out is compared with what went in.

Templates fail loudly (a content that is null, arguments that are text) or quietly (a call that is left out, arguments
that are encoded twice). Both are found. The templates are those that TRL ships, or a model's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from proxy.errors import ConfigError

__all__ = ["Template", "load", "shipped"]

USUAL: Final = "qwen3"


class Template:
    """A Jinja template of a model, rendered by transformers."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self._source = source

    def problems(self, messages: list[Any], tools: list[Any]) -> Iterator[str]:
        """What goes wrong when the conversation is rendered."""
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it misses torch, which no template needs
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered = render_jinja_template([messages], tools=tools or None, chat_template=self._source)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            yield f"template {self.name} fails: {' '.join(str(error).split())[:160]}"
            return
        text = _text_of(rendered)
        yield from self._lost(messages, text)

    def _lost(self, messages: list[Any], rendered: str) -> Iterator[str]:
        """What was said last and does not come out; earlier thoughts are left out by many templates, on purpose."""
        for message in messages:
            for call in message.get("tool_calls") or ():
                yield from self._call(call, rendered)
        content = messages[-1].get("content") if messages else None
        if isinstance(content, str) and content.strip() not in rendered:
            yield f"template {self.name} loses the answer's text"

    def _call(self, call: Mapping[str, Any], rendered: str) -> Iterator[str]:
        given = call["function"]["arguments"]
        twice = isinstance(given, str) and '"' in given and json.dumps(given)[1:-1] in rendered
        said = list(_texts(json.loads(given) if isinstance(given, str) else given))
        if not all(text in rendered or json.dumps(text)[1:-1] in rendered for text in said):
            yield f"template {self.name} loses a call of a tool"
        elif twice:
            yield f"template {self.name} encodes the arguments of a call twice; it wants an object, not JSON text"


def shipped() -> dict[str, Path]:
    """The templates that the installed TRL ships, by name; empty without TRL."""
    spec = find_spec("trl")
    folder = Path(spec.origin).parent / "chat_templates" if spec is not None and spec.origin else None
    if folder is None or not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.glob("*.jinja")) if not path.stem.endswith("_training")}


def load(given: str | None) -> Template | None:
    """The template named, of a model's folder, or of a file; the usual one where None; None without the libraries.

    Raises ConfigError for one that does not exist.
    """
    if find_spec("transformers") is None:
        return None
    found = shipped()
    if given is None:
        return Template(f"{USUAL} (TRL {_version()})", found[USUAL].read_text()) if USUAL in found else None
    if given in found:
        return Template(f"{given} (TRL {_version()})", found[given].read_text())
    path = Path(given).expanduser()
    source = _of_folder(path) if path.is_dir() else path.read_text() if path.is_file() else None
    if source is None:
        known = f"TRL ships {', '.join(found)}" if found else "TRL is not installed"
        raise ConfigError(f"--template {given}: no file, no folder of a model with a chat template; {known}")
    return Template(path.name, source)


def _of_folder(folder: Path) -> str | None:
    jinja, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if jinja.is_file():
        return jinja.read_text()
    template = json.loads(config.read_text()).get("chat_template") if config.is_file() else None
    return template if isinstance(template, str) else None


def _version() -> str:
    try:
        return version("trl")
    except PackageNotFoundError:
        return "of unknown version"


def _texts(arguments: Any) -> Iterator[str]:
    """Every text in the arguments of a call."""
    if isinstance(arguments, str):
        yield arguments
    elif isinstance(arguments, Mapping):
        for value in arguments.values():
            yield from _texts(value)
    elif isinstance(arguments, list):
        for value in arguments:
            yield from _texts(value)


def _text_of(rendered: Any) -> str:
    """What transformers gives back is the texts, or those with the spans of the assistant's words."""
    while isinstance(rendered, tuple | list):
        rendered = rendered[0]
    return str(rendered)
