"""A very small language model: what it says depends on how it is asked. `python model.py PORT` serves it, OpenAI-style.

It can multiply, and it chats: "That would be 56, I think." Told to reply with a number alone, it does. What a dozen of
something is, it only understands when it is shown one. Asked to improve an instruction, it knows one sentence.
"""

import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

THINKS_S = 0.02
ADVICE = "Reply with the number alone: no words, no full stop."


def answer(messages):
    said = messages[-1]["content"]
    if "write a new instruction" in said:
        return f"Here it is:\n```\n{ADVICE}\n```"
    numbers = [int(number) for number in re.findall(r"\d+", said)]
    shown = any("dozen" in turn["content"] for turn in messages[:-1] if turn["role"] == "user")
    if "dozen" in said:
        value = numbers[0] * 12 if shown else numbers[0]
    else:
        value = numbers[0] * numbers[1] if len(numbers) == 2 else 0
    system = " ".join(turn["content"] for turn in messages if turn["role"] == "system")
    terse = "number alone" in system or len(said) % 3 == 0  # sometimes it is by itself
    return str(value) if terse else f"That would be {value}, I think."


class Chat(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self):  # /health
        self.reply({"status": "ok"})

    def do_POST(self):  # /v1/chat/completions
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(THINKS_S)
        message = {"role": "assistant", "content": answer(request["messages"])}
        self.reply(
            {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        )

    def reply(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Chat)
    print(f"listens on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
