"""A hundred people use a calculator through Ratchet, vote on every other answer, and correct what they do not like.

python users.py [URL of Ratchet]        until most answers are right, twice in a row
"""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

ROUNDS = 400
RATCHET = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"


def post(path: str, document: dict[str, Any]) -> tuple[Any, Any]:
    """The answer and its headers."""
    request = Request(RATCHET + path, json.dumps(document).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer), answer.headers


def ask(user: str) -> bool:
    """Ask for a number and say what was thought of the answer; whether it was right, and nothing but the number."""
    a, b = random.randrange(2, 13), random.randrange(2, 13)
    question, number = (
        (f"What is {a} times {b}?", a * b) if random.random() < 0.7 else (f"How many are {a} dozen?", 12 * a)
    )
    chat = {"model": "tiny", "user": user,
            "messages": [{"role": "system", "content": "You are a calculator."},
                         {"role": "user", "content": question}]}  # fmt: skip
    answer, headers = post("/v1/chat/completions", chat)
    right = answer["choices"][0]["message"]["content"].strip() == str(number)
    if random.random() < 0.5:
        vote = {"record_id": headers["x-ratchet-record-id"], "source": user, "feedback": 1 if right else -1}
        post("/-/feedback", vote if right else {**vote, "correction": str(number)})
    return right


def main() -> None:
    """A hundred questions at a time, four of them at once."""
    with ThreadPoolExecutor(4) as at_once:
        good = 0
        for _ in range(ROUNDS):
            users = [f"user-{random.randrange(100)}" for _ in range(100)]
            share = sum(at_once.map(ask, users)) / len(users)
            print(f"{share:.0%} right", flush=True)
            good = good + 1 if share >= 0.9 else 0
            if good == 2:
                return
    sys.exit("they have given up: `ratchet explain` says what it is waiting for")


if __name__ == "__main__":
    main()
