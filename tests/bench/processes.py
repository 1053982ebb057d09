"""Processes that are measured: started and ended, bound to a core, and what they have used; and nginx.

CPU time is read from /proc/<pid>/stat, with the time of children that have ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "PASS",
    "STATIC",
    "cpu_s",
    "family",
    "free_port",
    "memory_mib",
    "missing_tools",
    "nginx",
    "pinned",
    "process",
    "wait_for",
]

TICKS = os.sysconf("SC_CLK_TCK")
NGINX = """
worker_processes 1; daemon off; pid {dir}/{name}.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log {log}; keepalive_requests 100000000; client_body_temp_path {dir}/{name}-b; proxy_temp_path {dir}/{name}-p;
  fastcgi_temp_path {dir}/{name}-f; uwsgi_temp_path {dir}/{name}-u; scgi_temp_path {dir}/{name}-s;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; client_max_body_size 0; {body} }}
}}
"""
STATIC = "location / {{ default_type application/json; return 200 '{chat}'; }}"
PASS = (
    "location / { proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ''; "
    "proxy_buffering off; proxy_request_buffering off; }"
)


def pinned(pid: int, *, beside: bool = False) -> int:
    """`pid`, bound to the last core, so that the proxies are measured on the same one, one after the other.

    `beside`: to the other cores, where load and upstream leave that one alone.
    """
    cores = os.sched_getaffinity(0)
    measured = {max(cores)}
    os.sched_setaffinity(pid, (cores - measured or measured) if beside else measured)
    return pid


def cpu_s(*pids: int) -> float:
    """CPU seconds that these processes have used, with their children that have ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def family(pid: int) -> list[int]:
    """A process and all that descend from it and live."""
    found = [pid]
    for member in found:  # grows while it is walked
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{member}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def memory_mib(pid: int, *, peak: bool = False) -> float:
    """Resident memory in MiB, now or at its highest."""
    match = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0


@contextlib.contextmanager
def process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that ends with the block."""
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def nginx(
    directory: Path, name: str, port: int, upstream: int, body: str, *, beside: bool | None = False, log: str = "off"
) -> Iterator[int]:
    """An nginx with one worker; yields the worker's pid.

    `beside`: not on the core that is measured; None: wherever the system puts it. `log`: its access log's file.
    """
    file = directory / f"{name}.conf"
    file.write_text(NGINX.format(dir=directory, name=name, port=port, upstream=upstream, body=body, log=log))
    with process("/usr/sbin/nginx", "-c", str(file)) as master:
        wait_for(port)
        while not (workers := family(master.pid)[1:]):  # it listens first
            time.sleep(0.01)
        worker = workers[0]
        yield worker if beside is None else pinned(worker, beside=beside)


def missing_tools() -> str:
    """What to install first; empty where all is there."""
    tools = ("wrk", "/usr/sbin/nginx")
    return "" if all(map(shutil.which, tools)) else "wrk and nginx are needed: apt-get install nginx wrk"


def wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
