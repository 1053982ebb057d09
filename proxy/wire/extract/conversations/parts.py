"""Content as APIs write it, in pieces: words, and what is none, which is told as OpenAI's chat does.

A picture, a sound or a file counts as at hand with its bytes in the request, or at a public address. An id at the
provider's does not, nor does what redaction has cut into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from policies.conversation import Attachment, Content, Medium
from proxy.wire.extract.values import REDACTED, items, kind_of, mapping, text

__all__ = ["Pieces", "file_of", "media_of", "picture", "picture_data"]

_SNIFFED: Final = (("/9j/", "jpeg"), ("R0lGOD", "gif"), ("UklGR", "webp"), ("Qk", "bmp"))
"""How base64 of pictures begins."""
_PUBLIC: Final = ("https://", "http://")
_PRIVATE: Final = ("https://generativelanguage.googleapis.com/",)
"""Looks public, and is an id."""
_THOUGHTS: Final = frozenset({"thinking", "reasoning", "reasoning_text", "reasoning.text", "reasoning.summary",
                              "redacted_thinking", "reasoning.encrypted"})  # fmt: skip


class Pieces:
    """The pieces of a content as they are read; what could not be is told by `unread`."""

    __slots__ = ("pieces", "thoughts", "unread")

    def __init__(self) -> None:
        self.pieces: list[str | Attachment] = []
        self.thoughts: list[str] = []
        self.unread = False

    def read(self, content: Any) -> None:
        """A content as OpenAI's chat and Responses, Anthropic, Mistral, Cohere and Hugging Face write it."""
        if content is None:
            return
        for part in content if isinstance(content, list) else [content]:
            self._part(part)

    def _part(self, part: Any) -> None:
        if isinstance(part, str | Attachment):
            self.pieces.append(part)
            return
        fields = mapping(part)
        kind = kind_of(fields)
        if kind in _THOUGHTS:
            self.thoughts.append(thought_in(fields))
        elif (reader := _PARTS.get(kind)) is not None:
            self.add(reader(fields))
        elif (said := text(fields.get("text", fields.get("refusal")))) is not None:
            self.pieces.append(said)
        else:
            self.unread = True

    def add(self, piece: Piece) -> None:
        """A piece; None: it could not be read. A list: several."""
        if isinstance(piece, list):
            self.read(piece)
        elif piece is None:
            self.unread = True
        else:
            self.pieces.append(piece)

    def content(self, separator: str) -> Content:
        """A text where all of it is words, else the pieces."""
        pieces = [piece for piece in self.pieces if piece != ""]
        if all(isinstance(piece, str) for piece in pieces):
            return separator.join(pieces)  # type: ignore[arg-type]
        return tuple(pieces)

    @property
    def reasoning(self) -> str | None:
        """What was thought."""
        return "\n\n".join(filter(None, self.thoughts)) or None


Piece = str | Attachment | list[Any] | None


def thought_in(fields: dict[str, Any]) -> str:
    """The words of a thought: a text, or parts of it (Mistral's), or a summary."""
    for key in ("thinking", "text", "reasoning", "summary"):
        found = fields.get(key)
        if isinstance(found, str):
            return found
        if isinstance(found, list):
            return "\n".join(said for part in found if (said := text(mapping(part).get("text"))) is not None)
    return ""


def picture(url: Any, detail: Any = None) -> Attachment:
    """A picture at a URL (`data:` or public)."""
    if not _at_hand(url):
        return Attachment(medium="image")
    where = {"url": url} if not isinstance(detail, str) else {"url": url, "detail": detail}
    return Attachment(medium="image", part={"type": "image_url", "image_url": where})


def picture_data(data: Any, mime: str | None = None) -> Attachment:
    """A picture in base64, or at a URL where the client put one there."""
    if not isinstance(data, str) or not data or data.startswith(("data:", *_PUBLIC)):
        return picture(data)
    kind = mime or f"image/{next((name for start, name in _SNIFFED if data.startswith(start)), 'png')}"
    return picture(f"data:{kind};base64,{data}")


def media_of(mime: str, data: Any, name: Any = None) -> Attachment:
    """Base64 of some media type."""
    medium, _, form = mime.partition("/")
    if not isinstance(data, str) or not data or REDACTED in data:
        return Attachment(medium=medium if medium in ("image", "audio", "video") else "file")  # type: ignore[arg-type]
    if medium == "image":
        return picture_data(data, mime)
    if medium == "audio":
        form = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}.get(form, form)
        sound = {"type": "input_audio", "input_audio": {"data": data, "format": form}}
        return Attachment(medium="audio", part=sound)
    if medium == "video":
        film = {"type": "video_url", "video_url": {"url": f"data:{mime};base64,{data}"}}
        return Attachment(medium="video", part=film)
    return file_of(f"data:{mime or 'application/octet-stream'};base64,{data}", name)


def file_of(url: Any, name: Any = None) -> Attachment:
    """A file at a URL (`data:` or public)."""
    if not _at_hand(url):
        return Attachment(medium="file")
    named = {"filename": name} if isinstance(name, str) and name else {}
    return Attachment(medium="file", part={"type": "file", "file": named | {"file_data": url}})


def _at_hand(url: Any) -> bool:
    if not isinstance(url, str) or REDACTED in url:
        return False
    if url.startswith("data:"):
        return not url.endswith((",", ":"))
    return url.startswith(_PUBLIC) and not url.startswith(_PRIVATE)


def _url_in(fields: dict[str, Any], key: str) -> Any:
    """The address under `key`: a text, or an object that has it."""
    found = fields.get(key, fields.get("url"))
    return found if isinstance(found, str) else mapping(found).get("url")


def _image(fields: dict[str, Any]) -> Piece:
    """`image_url` as an object or a text; Anthropic's and Hugging Face's `image`."""
    if source := mapping(fields.get("source")):
        return _from_source(source, "image/png")
    key = "image" if "image" in fields else "image_url"
    detail = fields.get("detail", mapping(fields.get(key)).get("detail"))
    return picture(_url_in(fields, key), detail)


def _audio(fields: dict[str, Any]) -> Piece:
    sound = mapping(fields.get("input_audio"))
    data, form = sound.get("data"), text(sound.get("format")) or "wav"
    return media_of(f"audio/{form}", data)


def _linked(medium: Medium) -> Callable[[dict[str, Any]], Piece]:
    kind = f"{medium}_url"

    def read(fields: dict[str, Any]) -> Piece:
        url = _url_in(fields, kind if kind in fields else medium)
        part = {"type": kind, kind: {"url": url}} if _at_hand(url) else None
        return Attachment(medium=medium, part=part)

    return read


def _file(fields: dict[str, Any]) -> Piece:
    """OpenAI's file, of its chat (an object of its own) or its Responses."""
    inner = mapping(fields.get("file")) or fields
    url = inner.get("file_data") or inner.get("file_url")
    mime = text(inner.get("mime_type")) or "application/pdf"
    if isinstance(url, str) and url and not url.startswith(("data:", *_PUBLIC)):
        url = f"data:{mime};base64,{url}"
    return file_of(url, inner.get("filename"))


def _document(fields: dict[str, Any]) -> Piece:
    """Anthropic's document, by its source; Cohere's, which is what a tool found; Mistral's, at an address."""
    if source := mapping(fields.get("source")):
        found = _from_source(source, "application/pdf", fields.get("title"))
        about = [said for key in ("title", "context") if (said := text(fields.get(key)))]
        return [*about, *found] if isinstance(found, list) else [*about, found] if about else found
    return file_of(_url_in(fields, "document_url"), fields.get("document_name"))


def _from_source(source: dict[str, Any], usual: str, name: Any = None) -> Piece:
    """Anthropic's `source` of a picture or a document."""
    kind = kind_of(source)
    if kind == "base64":
        return media_of(text(source.get("media_type")) or usual, source.get("data"), name)
    if kind == "text":
        return text(source.get("data"))
    if kind == "content":
        given = source.get("content")
        return given if isinstance(given, str) else items(given)
    url = source.get("url")
    return picture(url) if usual.startswith("image/") else file_of(url, name)


def _search_result(fields: dict[str, Any]) -> Piece:
    """Anthropic's: what a search of the client's found, with its source."""
    about = [said for key in ("title", "source") if (said := text(fields.get(key)))]
    return [*about, *items(fields.get("content"))]


_PARTS: Final[dict[str, Callable[[dict[str, Any]], Piece]]] = {
    "image_url": _image, "input_image": _image, "image": _image, "image_file": _image,
    "input_audio": _audio, "audio": _linked("audio"), "audio_url": _linked("audio"),
    "video": _linked("video"), "video_url": _linked("video"), "input_video": _linked("video"),
    "file": _file, "input_file": _file, "document": _document, "document_url": _document,
    "search_result": _search_result,
}  # fmt: skip
