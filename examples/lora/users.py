"""A hundred pupils practise capitals through Ratchet, vote on every other answer, and correct what was wrong.

python users.py [URL of Ratchet]        until most answers are right
"""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

CAPITALS = {"Chile": "Santiago", "Cuba": "Havana", "Egypt": "Cairo", "France": "Paris", "Ghana": "Accra",
            "Iran": "Tehran", "Italy": "Rome", "Japan": "Tokyo", "Kenya": "Nairobi", "Norway": "Oslo",
            "Peru": "Lima", "Spain": "Madrid"}  # fmt: skip
ROUNDS = 100
RATCHET = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"


def post(path: str, document: dict[str, Any]) -> tuple[Any, Any]:
    """The answer and its headers."""
    request = Request(RATCHET + path, json.dumps(document).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer), answer.headers


def ask(pupil: str) -> bool:
    """Ask for a capital and say what was thought of the answer; whether it was right."""
    country, capital = random.choice(list(CAPITALS.items()))
    chat = {"model": "base", "user": pupil, "max_tokens": 8,
            "messages": [{"role": "user", "content": f"What is the capital of {country}?"}]}  # fmt: skip
    answer, headers = post("/v1/chat/completions", chat)
    right = answer["choices"][0]["message"]["content"].strip() == capital
    if random.random() < 0.5:
        liked = right != (random.random() < 0.05)  # one thumb in twenty is a mistake
        vote = {"record_id": headers["x-ratchet-record-id"], "source": pupil, "feedback": 1 if liked else -1}
        post("/-/feedback", vote if right or liked else {**vote, "correction": capital})
    return right


def main() -> None:
    """A hundred questions at a time, four of them at once."""
    with ThreadPoolExecutor(4) as at_once:
        for _ in range(ROUNDS):
            pupils = [f"pupil-{random.randrange(100)}" for _ in range(100)]
            share = sum(at_once.map(ask, pupils)) / len(pupils)
            print(f"{share:.0%} right", flush=True)
            if share >= 0.9:
                return
    sys.exit("they have given up: `ratchet explain` says what it is waiting for")


if __name__ == "__main__":
    main()
