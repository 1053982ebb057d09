"""A notification in the form of whoever gets it: Slack, Mattermost, Discord, Teams, Google Chat, Alertmanager, or ours.

A reason quotes names of models and words of programs, which somebody else may have chosen. In a chat it must call
nobody, format nothing and become no link: what would is escaped, or parted by a character without width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlsplit

from policies.notices import Notice, notice_of
from proxy.printable import printable

__all__ = ["NotifyTarget", "body_for", "form_of", "targets_of"]

Event = Mapping[str, Any]
_ALERTS: Final = "/api/v2/alerts"
_HOSTS: Final = (
    ("hooks.slack.com", "slack"),
    ("hooks.slack-gov.com", "slack"),
    ("discord.com", "discord"),
    ("discordapp.com", "discord"),
    ("logic.azure.com", "teams"),
    ("api.powerplatform.com", "teams"),
    ("webhook.office.com", "teams"),
    ("chat.googleapis.com", "google_chat"),
)
"""How the host of a target ends, and its form."""
_NOBODY: Final = "\u200b"
_MARKDOWN: Final = re.compile(r"([\\`*_~\[\]()<>|#!])")
_LONGEST: Final = 3000
_DISCORD: Final = 2000
_FOREVER: Final = "0001-01-01T00:00:00Z"
_ALERT_LASTS: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class NotifyTarget:
    """Who gets notifications, and in which form."""

    url: str
    kind: str = "json"
    console_url: str | None = None
    """Where people reach the console; None: no link."""

    def __repr__(self) -> str:
        """Without the URL, in which a key stands."""
        return f"NotifyTarget({self.name})"

    @property
    def name(self) -> str:
        """Form and host: what may be shown."""
        return f"{self.kind} at {urlsplit(self.url).hostname}"


def targets_of(urls: Sequence[str], kinds: Sequence[str] = (), console_url: str | None = None) -> list[NotifyTarget]:
    """Who gets notifications, by the settings (`notify.urls`, `.kinds`, `.console_url`)."""
    named = [*kinds, *("auto" for _ in urls)]
    return [
        NotifyTarget(url, form_of(url) if kind == "auto" else kind, console_url)
        for url, kind in zip(urls, named, strict=False)
    ]


def form_of(url: str) -> str:
    """The form that the receiver at `url` takes, as its address says; `json` where it says nothing."""
    parts = urlsplit(url)
    host, path = parts.hostname or "", parts.path.rstrip("/")
    if path.endswith(_ALERTS):
        return "alertmanager"
    if path.startswith("/hooks/") and "mattermost" in host.split("."):
        return "mattermost"
    found = next((kind for end, kind in _HOSTS if f".{host}".endswith(f".{end}")), "json")
    return "slack" if found == "discord" and path.endswith("/slack") else found


def body_for(target: NotifyTarget, event: Event) -> Any:
    """The JSON that `target` gets of an event. Of ours all fields are as they are."""
    notice = notice_of(event)
    link = None if target.console_url is None else f"{target.console_url.rstrip('/')}{notice.path}"
    if target.kind == "json":
        return {**event} if link is None else {**event, "url": link}
    if target.kind == "alertmanager":
        return _alert(target, event, notice, link)
    return _FORMS[target.kind](notice, link)


def _slack(notice: Notice, link: str | None) -> Any:
    """Two blocks of plain text, in which nothing is a link; `text` is what a phone's notification shows."""
    whole = f"{notice.title}: {_apart(notice.text)}"
    escaped = _cut(whole).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = {"type": "plain_text", "text": _cut(whole), "emoji": False}
    blocks: list[Any] = [{"type": "section", "text": plain}]
    if link is not None:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"<{link}|Open in the console>"}]})
    return {"text": f"Ratchet: {escaped}", "blocks": blocks}


def _mattermost(notice: Notice, link: str | None) -> Any:
    more = "" if link is None else f"\n[Open in the console]({link})"
    return {"text": f"**{notice.title}:** {_cut(_marked(notice.text))}{more}", "username": "Ratchet"}


def _discord(notice: Notice, link: str | None) -> Any:
    """2,000 characters at most, nobody is called, and no preview of a page is shown."""
    more = "" if link is None else f"\n<{link}>"
    head = f"**{notice.title}:** "
    text = _cut(_marked(notice.text), max(0, _DISCORD - len(head) - len(more)))
    content = f"{head}{text}{more}"
    return {"content": content[:_DISCORD], "username": "Ratchet", "allowed_mentions": {"parse": []}, "flags": 4}


def _teams(notice: Notice, link: str | None) -> Any:
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "wrap": True, "weight": "Bolder", "text": f"Ratchet: {notice.title}"},
            {"type": "TextBlock", "wrap": True, "text": _cut(_marked(notice.text)) or "–"},
        ],
    }
    if link is not None:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open in the console", "url": link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _google_chat(notice: Notice, link: str | None) -> Any:
    """Its markup has no escapes: the signs that it is made of are parted from what follows."""
    text = re.sub(r"([<*_~`])", rf"\1{_NOBODY}", _apart(notice.text))
    more = "" if link is None else f"\n<{link}|Open in the console>"
    return {"text": f"*{notice.title}:* {_cut(text)}{more}"}


_FORMS: Final[Mapping[str, Callable[[Notice, str | None], Any]]] = {
    "slack": _slack,
    "mattermost": _mattermost,
    "discord": _discord,
    "teams": _teams,
    "google_chat": _google_chat,
}


def _alert(target: NotifyTarget, event: Event, notice: Notice, link: str | None) -> Any:
    """An alert for Alertmanager itself (/api/v2/alerts), else as Alertmanager sends it to a webhook (version 4)."""
    began = datetime.fromtimestamp(float(event.get("at") or 0.0), UTC)
    labels = {
        "alertname": "RatchetEvent",
        "event": str(event.get("event")),
        "phase": str(event.get("phase") or "unknown"),
        "severity": "warning" if notice.alarm else "info",
    }
    notes = {"summary": notice.title, "description": _cut(printable(notice.text))}
    alert: dict[str, Any] = {"labels": labels, "annotations": notes, "startsAt": _instant(began)}
    if urlsplit(target.url).path.rstrip("/").endswith(_ALERTS):
        return [alert | {"endsAt": _instant(began + _ALERT_LASTS)} | ({} if link is None else {"generatorURL": link})]
    mark = blake2b("\0".join(f"{name}={text}" for name, text in sorted(labels.items())).encode(), digest_size=8)
    alert |= {"status": "firing", "endsAt": _FOREVER, "generatorURL": link or "", "fingerprint": mark.hexdigest()}
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="RatchetEvent", event="{labels["event"]}"}}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "ratchet",
        "groupLabels": {"alertname": "RatchetEvent", "event": labels["event"]},
        "commonLabels": labels,
        "commonAnnotations": notes,
        "externalURL": target.console_url or "",
        "alerts": [alert],
    }


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _apart(text: str) -> str:
    """What calls somebody (@everyone) or becomes a link by itself, with a character without width in it."""
    parted = printable(text).replace("@", f"@{_NOBODY}").replace("://", f":{_NOBODY}//")
    return re.sub(r"(?i)\b(www|mailto)([.:])", rf"\1{_NOBODY}\2", parted)


def _marked(text: str) -> str:
    """The same, with the signs of Markdown escaped."""
    return _MARKDOWN.sub(r"\\\1", _apart(text).replace("\n", " "))


def _cut(text: str, most: int = _LONGEST) -> str:
    """No more than `most` characters, and not in the middle of an escape."""
    return text if len(text) <= most else text[: max(0, most - 1)].rstrip("\\") + "…"
