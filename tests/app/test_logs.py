"""One line a message, naming its process; JSON stays JSON whatever the message holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import orjson
import pytest

from proxy.app.logs import configure_logging
from proxy.config.model import TelemetryConfig


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_names_time_level_process_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetryConfig(), "worker-3")
    logging.getLogger("proxy.example").info("forty-%s", "two")
    logging.getLogger("proxy.example").debug("unseen")
    line = capsys.readouterr().err
    assert line.endswith("Z INFO worker-3 proxy.example: forty-two\n")
    assert line[:2] == "20"


def test_json_holds_the_same_and_the_exception(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetryConfig(log_format="json", log_level="debug"), "controller")
    try:
        raise ValueError('with "quotes"\nand lines')
    except ValueError:
        logging.getLogger("proxy.example").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    entry = orjson.loads(line)
    assert (entry["level"], entry["process"], entry["message"]) == ("error", "controller", "failed")
    assert 'ValueError: with "quotes"' in entry["exception"]


def test_chatty_libraries_speak_up_only_for_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetryConfig(), "controller")
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.error").warning("odd")
    assert capsys.readouterr().err.endswith("odd\n")
