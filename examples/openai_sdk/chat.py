"""The OpenAI SDK through Ratchet: only the base URL changes. The record id for the vote is a header of the answer.

RATCHET_URL=http://127.0.0.1:8080 python examples/openai_sdk/chat.py
"""

from __future__ import annotations

import json
import os
from urllib.request import Request, urlopen

from openai import OpenAI

RATCHET_URL = os.environ.get("RATCHET_URL", "http://127.0.0.1:8080")

client = OpenAI(base_url=f"{RATCHET_URL}/v1", api_key=os.environ.get("OPENAI_API_KEY", "not needed here"))


def ask(question: str, user: str) -> tuple[str, str]:
    """The whole answer and the id of its record."""
    raw = client.chat.completions.with_raw_response.create(
        model="any",
        messages=[{"role": "user", "content": question}],
        safety_identifier=user,  # who asks: keeps a person with one model
    )
    return raw.parse().choices[0].message.content or "", raw.headers["x-ratchet-record-id"]


def ask_streaming(question: str, user: str) -> tuple[str, str]:
    """The same, word by word: the id comes with the head, before the first word."""
    raw = client.chat.completions.with_raw_response.create(
        model="any",
        messages=[{"role": "user", "content": question}],
        safety_identifier=user,
        stream=True,
    )
    record_id = raw.headers["x-ratchet-record-id"]
    words = []
    for chunk in raw.parse():
        if chunk.choices and chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, end="", flush=True)
            words.append(chunk.choices[0].delta.content)
    print()
    return "".join(words), record_id


def vote(record_id: str, user: str, feedback: int, **more: object) -> None:
    """A thumb: 1 good, -1 bad; more: comment, tags, and with the token correction and quality_score."""
    body = {"record_id": record_id, "feedback": feedback, "source": user, **more}
    headers = {"content-type": "application/json"}
    if token := os.environ.get("RATCHET_FEEDBACK_TOKEN"):
        headers["authorization"] = f"Bearer {token}"
    with urlopen(Request(f"{RATCHET_URL}/-/feedback", json.dumps(body).encode(), headers)) as answer:
        print(f"voted {feedback:+d}: {answer.status}")


if __name__ == "__main__":
    text, record = ask("I need a holiday.", user="ann")
    print(text)
    vote(record, "ann", 1, comment="that is what a friend would ask")
    text, record = ask_streaming("Hello, who are you?", user="ann")
    vote(record, "ann", -1, correction="I am ELIZA.")
