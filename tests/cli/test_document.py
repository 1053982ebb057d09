"""The command line's reference is what the commands say."""

from pathlib import Path

from proxy.cli.document import REFERENCE_FILE, reference_markdown


def test_the_file_in_the_repository_is_the_generated_one() -> None:
    text = (Path(__file__).parents[2] / REFERENCE_FILE).read_text(encoding="utf-8")
    assert text == reference_markdown(), "run `python -m proxy.cli.document`"


def test_every_verb_that_was_promised_is_there() -> None:
    page = reference_markdown()
    for verb in ("serve", "check-config", "status", "explain", "history", "power", "simulate", "trigger", "promote",
                 "rollback", "deploy",
                 "pause", "resume", "cancel", "share", "feedback", "records list", "records show", "records export",
                 "records delete", "data export", "data preview", "keys list", "keys rotate", "loop run", "loop status",
                 "loop trigger"):  # fmt: skip
        assert f"## `ratchet {verb}`" in page, verb
