"""The page about notifications: its settings are settings, and lead to the forms that it says."""

from __future__ import annotations

import json
import re
import tomllib

from proxy.config import parse_config
from proxy.loop.adapters.messages import body_for, targets_of
from tests.harness.pages import ROOT, blocks

PAGE = ROOT / "docs/how-to/notifications.md"


def test_its_settings_can_be_copied_and_lead_to_the_forms_that_it_says() -> None:
    found = []
    for block in blocks(PAGE):
        if block.language == "toml":
            notify = parse_config(tomllib.loads(block.text)).notify
            found += [target.kind for target in targets_of(notify.urls, notify.kinds, notify.console_url)]
    assert found == ["slack", "discord", "teams", "google_chat", "slack", "mattermost", "alertmanager"]
    listed = re.findall(
        r"^\| `(\w+)` \| (?:`(?!ratchet)|hosts|URLs|all)", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(listed) == {*found, "json"}


def test_the_fields_of_our_own_form_are_listed() -> None:
    [sample] = [json.loads(block.text) for block in blocks(PAGE) if block.language == "json"]
    text = PAGE.read_text(encoding="utf-8")
    listed = {
        name for row in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    [target] = targets_of(["https://h.example/x"], (), "https://ratchet.example.com")
    assert body_for(target, sample).keys() <= listed
    assert body_for(target, sample)["url"] == "https://ratchet.example.com/history/31"
