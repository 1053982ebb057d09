"""Who gets which model, over 100,000 keys: the right share, nobody moved back, no memory between experiments.

The last two tests leave this process: another interpreter, and two gateways that know nothing of each other.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from policies.assignment import assign, unit_interval
from policies.records import Arm
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import serve_upstream

COUNT = 100_000
SHARES = (0.01, 0.1, 0.3, 0.5, 0.9)
SALTS = tuple(sha256(b"experiment %d" % number).digest()[:16] for number in range(4))
KEYS = {
    "numbers": [b"%d" % number for number in range(COUNT)],
    "addresses": [b"user.%d@shop-%d.example" % (number, number % 17) for number in range(COUNT)],
    "digests": [sha256(b"%d" % number).hexdigest().encode() for number in range(COUNT)],
}


def challenged(salt: bytes, keys: list[bytes], share: float) -> set[bytes]:
    return {key for key in keys if assign(salt, key, share) is Arm.CHALLENGER}


@pytest.mark.parametrize("shape", KEYS)
def test_the_share_is_right_and_no_key_moves_back_when_it_rises(shape: str) -> None:
    keys = KEYS[shape]
    sides = [challenged(SALTS[0], keys, share) for share in SHARES]
    for share, side in zip(SHARES, sides, strict=True):
        assert abs(len(side) / COUNT - share) < 0.005
    assert all(smaller < larger for smaller, larger in pairwise(sides))


@pytest.mark.parametrize("shape", KEYS)
def test_keys_are_spread_evenly(shape: str) -> None:
    """Kolmogorov and Smirnov: the largest distance from the uniform distribution, at a level of one in 10,000."""
    points = sorted(unit_interval(SALTS[0], key) for key in KEYS[shape])
    distance = max(max((n + 1) / COUNT - point, point - n / COUNT) for n, point in enumerate(points))
    assert distance < 2.225 / COUNT**0.5


def test_experiments_know_nothing_of_each_other() -> None:
    """Of the users of one challenger, the next one gets its own share: within 4.5 standard errors, for every pair."""
    share, keys = 0.3, KEYS["addresses"]
    sides = [challenged(salt, keys, share) for salt in SALTS]
    error = (COUNT * share**2 * (1 - share**2)) ** 0.5
    for number, one in enumerate(sides):
        for other in sides[number + 1 :]:
            assert abs(len(one & other) - COUNT * share**2) < 4.5 * error


def digest(salt: bytes, share: float) -> str:
    """One value for the side of every key of one shape."""
    return sha256(bytes(assign(salt, key, share) for key in KEYS["addresses"])).hexdigest()


def test_another_process_gives_the_same_answer() -> None:
    code = "from tests.acceptance.test_assignment import SALTS, digest; print(digest(SALTS[0], 0.1))"
    root, environ = Path(__file__).parents[2], {"PYTHONHASHSEED": "7"}
    argv = [sys.executable, "-c", code]
    child = subprocess.run(argv, cwd=root, env=environ, capture_output=True, text=True, timeout=300, check=True)
    assert child.stdout.strip() == digest(SALTS[0], 0.1)


async def sides_of(door: Door, users: list[bytes]) -> list[bytes]:
    """The arm that a gateway says it gave each user: half of them name themselves in a header, half in the body."""
    client, sides = await door.connect(), []
    for number, user in enumerate(users):
        body = b'{"user": "%b"}' % user if number % 2 else b"{}"
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
        await client.send(head + (b"\r\n" if number % 2 else b"x-user-id: %b\r\n\r\n" % user) + body)
        head, _ = await client.response()
        sides.append(head.lower().partition(b"x-ratchet-arm: ")[2].partition(b"\r\n")[0])
    return sides


async def test_replicas_agree_and_users_stay_as_the_share_rises(tmp_path: Path) -> None:
    users = KEYS["addresses"][:500]
    settings = config(gateway={"expose_arm": True})
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        old, new = [await stack.enter_async_context(serve_upstream()) for _ in range(2)]
        doors = [
            await stack.enter_async_context(open_gateway(folder, old.url, challenger=new.url, settings=settings))
            for folder in folders
        ]
        salt, challenged = bytes.fromhex(doors[0].table[0].salt), 0
        for share in (0.1, 0.4):
            arms = [assign(salt, user, share) for user in users]
            challenged += arms.count(Arm.CHALLENGER)
            for door in doors:
                door.route(share=share)
                assert await sides_of(door, users) == [arm.label.encode() for arm in arms]
        assert len(new.seen) == challenged * len(doors)
