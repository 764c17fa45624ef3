"""Minutes of mixed load on the server: is any answer wrong, does memory grow, is any request stuck?

Clients ask at once, over connections of their own: chats in many steerings, whole and streamed, completions, vectors,
tokens; answers that are left in the middle; invalid requests, requests without an end, and bytes that are not HTTP.
Answers are compared with what `Engine.stream` gives alone, before the server is started.

    python -m benchmarks.load [--minutes 30] [--clients 8] --output benchmarks/results/load.jsonl
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

import atv_local
from benchmarks.json_lines import append_lines
from benchmarks.server_process import JSON, PATH, Question, Seen, server
from benchmarks.tasks import load_tasks

N_QUESTIONS = 120
_WARM_SECONDS = 120
_STUCK_SECONDS = 120
_GROWTH = 0.1


def questions(engine: atv_local.Engine) -> list[Question]:
    """Queries in and outside the tasks, each in a steering and a sampling of its own."""
    rng = random.Random(0)
    queries = [query for task in load_tasks("test") for query, _ in task.rows]
    found = []
    for number in range(N_QUESTIONS):
        off = rng.random() < 0.3
        strength, positions = rng.choice([0.5, 1.0, 1.5]), rng.choice([*atv_local.Positions])
        sampled = rng.random() < 0.3
        max_tokens = rng.choice([1, 4, 16, 40])
        query = rng.choice(queries)
        body = {
            "messages": [{"role": "user", "content": query}],
            "steering": False if off else {"strength": strength, "positions": positions},
            "max_tokens": max_tokens,
            "temperature": 0.8 if sampled else 0,
            "seed": number,
        }
        steering = atv_local.OFF if off else replace(engine.steering, strength=strength, positions=positions)
        sampling = atv_local.Sampling(0.8, 1.0, 0, number) if sampled else atv_local.Sampling()
        answer = engine.answer(query, steering=steering, sampling=sampling, max_tokens=max_tokens)
        found.append(Question(body, answer.text))
    return found


class Client(threading.Thread):
    """Asks one thing after another until told to stop."""

    def __init__(self, address: str, asked: list[Question], seed: int, seen: Seen, until: float) -> None:
        super().__init__()
        self.begun = time.monotonic()
        """When its request was sent."""
        self._address, self._asked, self._seen, self._until = address, asked, seen, until
        self._rng = random.Random(seed)

    def run(self) -> None:
        """Until the time is over."""
        habits: list[tuple[Callable[[], None], int]] = [
            (self._whole, 40),
            (self._streamed, 30),
            (self._left, 15),
            (self._wrong, 8),
            (self._cut, 4),
            (self._others, 8),
        ]
        while time.monotonic() < self._until:
            (habit,) = self._rng.choices([habit for habit, _ in habits], [weight for _, weight in habits])
            self.begun = time.monotonic()
            try:
                habit()
            except (OSError, http.client.HTTPException) as error:
                self._seen.note(
                    "connection lost", f"{habit.__name__} after {time.monotonic() - self.begun:.0f} s: {error!r}"
                )
            self._seen.seconds.append(time.monotonic() - self.begun)

    def _post(self, body: Any, path: str = PATH) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self._address, timeout=_STUCK_SECONDS)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, content, JSON | {"Connection": "close"})
        return connection.getresponse()

    def _whole(self) -> None:
        question = self._rng.choice(self._asked)
        with self._post(question.body) as response:
            found = json.load(response)
        if response.status == 429:
            return self._seen.note("busy")
        text = found["choices"][0]["message"]["content"] if response.status == 200 else str(found)
        return self._seen.note("whole", "" if text == question.answer else f"{text!r}, not {question.answer!r}")

    def _streamed(self) -> None:
        question = self._rng.choice(self._asked)
        with self._post(question.body | {"stream": True}) as response:
            lines = response.read().decode().splitlines()
        if response.status == 429:
            return self._seen.note("busy")
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk.get("choices", []))
        right = text == question.answer and lines[-2] == "data: [DONE]"
        return self._seen.note("streamed", "" if right else f"{text!r}, not {question.answer!r}")

    def _left(self) -> None:
        """Go away before the answer, or after some of it."""
        body = self._rng.choice(self._asked).body | {"stream": self._rng.random() < 0.7, "max_tokens": 400}
        host, port = self._address.split(":")
        content = json.dumps(body).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: {self._address}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=_STUCK_SECONDS) as link:
            link.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            if self._rng.random() < 0.6:
                link.recv(self._rng.choice([1, 400, 2000]))
            else:
                time.sleep(self._rng.random() / 2)
        self._seen.note("left")

    def _wrong(self) -> None:
        body: Any = self._rng.choice(
            [
                b"{",
                b"\xff",
                b"[" * 10_000,
                {"messages": 5},
                {"messages": [], "unknown": 1},
                {"messages": [{"role": "user", "content": "a"}], "steering": {"strength": 1e9}},
                {"messages": [{"role": "user", "content": "a"}], "steering": {"bundle": "../x"}},
                {"messages": [{"role": "user", "content": "long " * 5000}]},
            ]
        )
        with self._post(body) as response:
            response.read()
        self._seen.note("wrong", "" if response.status == 400 else f"answered with {response.status}")

    def _cut(self) -> None:
        """Half a request, or no HTTP at all."""
        host, port = self._address.split(":")
        with socket.create_connection((host, int(port)), timeout=_STUCK_SECONDS) as link:
            link.sendall(self._rng.choice([b"\x16\x03\x01", b"POST / HT", b"GET /health HTTP/1.1\r\nHost: x\r\nA:"]))
            time.sleep(self._rng.random() / 5)
        self._seen.note("cut")

    def _others(self) -> None:
        query = self._rng.choice(self._asked).body["messages"][0]["content"]
        path, body = self._rng.choice(
            [
                ("/v1/embeddings", {"input": query}),
                ("/v1/steering", {"query": query}),
                ("/tokenize", {"prompt": query}),
                ("/v1/completions", {"prompt": query, "echo": True, "logprobs": 1, "max_tokens": 1}),
            ]
        )
        with self._post(body, path) as response:
            response.read()
        if response.status == 429:
            return self._seen.note("busy")
        return self._seen.note(path, "" if response.status == 200 else f"answered with {response.status}")


def resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    return float(psutil.Process(pid).memory_info().rss / (1 << 20))


def main() -> int:
    """Load, watch, print, append; 1 if an answer was wrong, memory grew by a tenth, or the server failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    asked = questions(atv_local.load())
    seen, memory, longest_wait = Seen(), [], 0.0
    with server() as served:
        started = time.monotonic()
        until = started + 60 * arguments.minutes
        clients = [Client(served.address, asked, seed, seen, until) for seed in range(arguments.clients)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            time.sleep(5)
            now = time.monotonic()
            memory.append((now - started, resident(served.process.pid)))
            longest_wait = max([longest_wait, *(now - client.begun for client in clients if client.is_alive())])
            if len(memory) % 24 == 0:
                state = f"{now - started:.0f} s", f"{memory[-1][1]:.0f} MB", dict(seen.kinds), len(seen.wrong)
                print(*state, *seen.wrong[-1:], flush=True)
        time.sleep(2)
        connection = http.client.HTTPConnection(served.address)
        connection.request("GET", "/health")
        health = json.load(connection.getresponse())
    warm = [value for at, value in memory if at >= min(_WARM_SECONDS, 15 * arguments.minutes)]
    fifth = max(1, len(warm) // 5)
    first, last = statistics.mean(warm[:fifth]), statistics.mean(warm[-fifth:])
    record = {
        "minutes": arguments.minutes,
        "clients": arguments.clients,
        "requests": dict(seen.kinds),
        "wrong": seen.wrong[:20],
        "n_wrong": len(seen.wrong),
        "different_answers": len({question.answer for question in asked}),
        "longest_request_s": max([longest_wait, *seen.seconds]),
        "median_request_s": statistics.median(seen.seconds),
        "afterwards": health,
        "exit_code": served.process.returncode,
        "resident_mb": {"first_fifth": first, "last_fifth": last, "least": min(warm), "most": max(warm)},
        "grown": last / first - 1,
        "memory": memory[::6],
    }
    print(json.dumps({name: value for name, value in record.items() if name != "memory"}, indent=1))
    if arguments.output:
        append_lines(arguments.output, [record])
    return int(bool(seen.wrong or record["grown"] > _GROWTH or served.process.returncode))


if __name__ == "__main__":
    sys.exit(main())
