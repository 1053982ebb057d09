"""Forms of texts, each declared beside the setting that has it: `Annotated[str, forms.network]`.

A form takes what somebody wrote and returns what is wrong with it and what to write instead; None where it is right.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import unquote, urlsplit

from proxy.config.literal import show
from proxy.config.masks import without_secrets

__all__ = ["POSTGRESQL_OPTIONS", "alias_header", "base_url", "header_member", "header_name", "http_url", "import_path", "key_header", "network", "origin", "otlp_endpoint", "otlp_headers", "path", "pointer",
           "postgresql_url", "refusal", "secret", "store_url"]  # fmt: skip

_FRAMING: Final = frozenset(
    ("connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer",
     "transfer-encoding", "upgrade", "via")
)  # fmt: skip
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CALLABLE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
POSTGRESQL_OPTIONS: Final = frozenset({
    "host", "port", "user", "password", "passfile", "service", "servicefile", "database", "dbname", "ssl", "sslmode",
    "direct_tls", "timeout", "connect_timeout", "command_timeout", "target_session_attrs", "krbsrvname", "gsslib",
    "application_name", "options", "search_path", "client_encoding",
})  # fmt: skip
"""What a url of PostgreSQL may say behind its question mark."""


def base_url(text: str) -> str | None:
    """Of a server: scheme, host, port and path."""
    if (complaint := http_url(text)) is not None:
        return complaint
    parts = urlsplit(text)
    if parts.query or parts.fragment:
        return f"{show(without_secrets(text))} has a query or fragment; give scheme, host, port and path only"
    if not parts.path.isascii():
        return f"{show(text)} has a path with letters that no request line may have; write them as %C3%BC"
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError:
        return f"{show(text)} has a host that cannot be the name of a machine"
    return None


def http_url(text: str) -> str | None:
    """Of an HTTP server."""
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


def store_url(text: str) -> str | None:
    """Of a database."""
    if re.match(r"sqlite(\+\w+)?://", text):
        return None
    return postgresql_url(text, "is neither sqlite:///path/to/file.db nor postgresql://user:password@host/database")


def postgresql_url(text: str, else_: str = "is not postgresql://user:password@host/database") -> str | None:
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


def header_name(text: str) -> str | None:
    """A name of a header."""
    return None if _TOKEN.fullmatch(text) else f"{show(text)} is not a header name; use letters, digits and hyphens"


def key_header(text: str) -> str | None:
    """A name of a header that may carry an API key: none that says where a request goes, or where it ends."""
    if text.lower() in _FRAMING:
        return f"{show(text)} is needed by HTTP itself; use authorization, or x-api-key, as the server's API says"
    return header_name(text)


def header_member(text: str) -> str | None:
    """A header, or `name#member` of one that holds JSON."""
    name, mark, member = text.partition("#")
    if mark and not member:
        return f"{show(text)} names no member; write name#member, like x-portkey-metadata#_user"
    return header_name(name)


def alias_header(text: str) -> str | None:
    """A header, or `name#sha256`."""
    name, mark, way = text.partition("#")
    if mark and way != "sha256":
        return f"{show(text)} is not a header, nor name#sha256; no other way to make a name of a value is known"
    return header_name(name)


def network(text: str) -> str | None:
    """In CIDR notation."""
    try:
        ipaddress.ip_network(text)
    except ValueError as exc:
        return f"{show(text)} is not a network ({exc}); write it like 10.0.0.0/8 or 2001:db8::/32"
    return None


def secret(text: str) -> str | None:
    """What a header can carry."""
    if text.isprintable() and text.isascii() and text == text.strip():
        return None
    return "has spaces around it, or characters that a header cannot carry; write the bare secret"


def otlp_endpoint(text: str) -> str | None:
    """Base URL of a receiver, or the word that leaves it to the environment."""
    return None if text == "env" else base_url(text)


def otlp_headers(text: str) -> str | None:
    """`name=value`, several with commas between; never quoted, for a value may be a secret."""
    for pair in text.split(","):
        name, mark, value = pair.strip().partition("=")
        if not mark or not _TOKEN.fullmatch(name.strip()) or secret(unquote(value.strip())) is not None:
            return (
                "is not name=value,name=value with names of headers; write spaces and commas in a value as %20 and %2C"
            )
    return None


def origin(text: str) -> str | None:
    """Scheme, host and port, or `*`."""
    parts = urlsplit(text)
    if text == "*" or (parts.scheme and parts.netloc and text == f"{parts.scheme}://{parts.netloc}"):
        return None
    return f"{show(text)} is not an origin; write scheme, host and port only, like https://chat.example.com, or *"


def pointer(text: str) -> str | None:
    """A JSON pointer."""
    if text.startswith("/"):
        return None
    return f"{show(text)} is not a JSON pointer; it starts with a slash, like /choices/0/text"


def path(text: str) -> str | None:
    """A path of a URL."""
    return None if text.startswith("/") else f"{show(text)} is not a path; it starts with a slash, like /health"


def refusal(status: int) -> str | None:
    """A status from 400 to 499."""
    return None if 400 <= status <= 499 else f"{status} is not a status of a refusal; write numbers from 400 to 499"


def import_path(text: str) -> str | None:
    """`package.module:function`."""
    return None if _CALLABLE.fullmatch(text) else f"{show(text)} is not of the form package.module:function"
