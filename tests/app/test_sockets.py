"""Listening: the message names the setting, a busy address is waited for, a long path is no obstacle."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from proxy.app import sockets
from proxy.app.sockets import listen, listen_unix, short_path, url_of


def test_port_zero_takes_a_free_one_and_says_which() -> None:
    with listen("127.0.0.1", 0, "server") as sock:
        assert url_of(sock, "http") == f"http://127.0.0.1:{sock.getsockname()[1]}"
        with socket.create_connection(sock.getsockname(), timeout=120):
            pass


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")])
def test_the_url_is_one_that_a_client_here_can_use(host: str, shown: str) -> None:
    with listen(host, 0, "server") as sock:
        port = sock.getsockname()[1]
        assert url_of(sock, "https") == f"https://{shown}:{port}"
        with socket.create_connection((shown.strip("[]"), port), timeout=120):
            pass


def test_an_address_in_use_names_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_PATIENCE_S", 0.1)
    with (
        listen("127.0.0.1", 0, "server") as taken,
        pytest.raises(OSError, match=r"^cannot listen .*admin\.host, admin\.port.*in use; stop what"),
    ):
        listen("127.0.0.1", taken.getsockname()[1], "admin")


def test_an_address_that_is_about_to_be_free_is_waited_for() -> None:
    taken = listen("127.0.0.1", 0, "server")
    port = taken.getsockname()[1]
    timer = threading.Timer(0.3, taken.close)
    timer.start()
    with listen("127.0.0.1", port, "server") as sock:
        assert sock.getsockname()[1] == port
    timer.join()


def test_a_host_that_is_no_address_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_PATIENCE_S", 0.1)
    with pytest.raises(OSError, match=r"server\.host"):
        listen("no-such-host.invalid", 0, "server")


def test_a_unix_socket_works_in_a_deep_directory_and_twice(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    path = short_path(deep / "worker.sock")
    listen_unix(path).close()
    with listen_unix(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
    assert (deep / "worker.sock").exists()
    assert short_path(Path("/run/worker.sock")) == Path("/run/worker.sock")
