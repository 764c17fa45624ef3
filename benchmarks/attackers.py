"""Clients of the server: an honest one that knows the answers, and one that attacks in many ways."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.server_process import JSON, PATH, Question, Seen

PATIENCE = 120
"""Seconds without a byte after which a connection counts as lost."""
_MEGABYTE = 1 << 20


class Honest:
    """Asks what has a known answer."""

    def __init__(self, address: str, asked: list[Question], seen: Seen) -> None:
        self._address, self._asked, self._seen = address, asked, seen

    def __call__(self, rng: random.Random) -> None:
        """Ask something, streamed or not, and compare."""
        question, stream = rng.choice(self._asked), rng.random() < 0.5
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        started = time.monotonic()
        connection.request("POST", PATH, json.dumps(question.body | {"stream": stream}), JSON)
        response = connection.getresponse()
        content = response.read(1)
        self._seen.seconds.append(time.monotonic() - started)
        content += response.read()
        connection.close()
        if response.status == 429:
            return self._seen.note("busy")
        if response.status != 200:
            return self._seen.note("honest", f"answered with {response.status}: {content[:200]!r}")
        if stream:
            chunks = [json.loads(line[6:]) for line in content.decode().splitlines() if line.startswith("data: {")]
            text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
        else:
            text = json.loads(content)["choices"][0]["message"]["content"]
        return self._seen.note("honest", "" if text == question.answer else f"{text!r} for {question.answer!r}")


class Attacker:
    """Ways to harm. Each method attacks once; `KINDS` names them."""

    def __init__(self, address: str, control: str, seen: Seen, n_idle: int) -> None:
        host, port = address.split(":")
        self._where, self._control, self._seen, self._n_idle = (host, int(port)), control, seen, n_idle

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._where, timeout=PATIENCE)

    def _head(self, size: int, path: str = PATH) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        return f"{head}Content-Length: {size}\r\n\r\n".encode()

    def _post(self, kind: str, body: Any, path: str, *statuses: int) -> None:
        """Send all, then read all; the status must be one of these, or say that the queue is full."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self._connect() as link:
            link.sendall(self._head(len(content), path) + content)
            answer = b"".join(iter(lambda: link.recv(1 << 16), b""))
        status = int(answer[9:12] or 0)
        self._seen.note(kind, "" if status in (*statuses, 429) else f"answered with {status}: {answer[:200]!r}")

    def flood(self, rng: random.Random) -> None:
        """A megabyte that is slow to tokenise."""
        unit = rng.choice([self._control, "\U0001f600", "x", " "])
        text = unit * (_MEGABYTE // len(unit.encode()) - 1)
        path, body = rng.choice(
            [
                (PATH, {"messages": [{"role": "user", "content": text}]}),
                ("/v1/completions", {"prompt": text}),
                ("/tokenize", {"prompt": text}),
            ]
        )
        self._post("flood", body, path, *((200, 400) if path == "/tokenize" else (400,)))

    def vectors(self, rng: random.Random) -> None:
        """Queries that are slow to read, or longer than is allowed."""
        text = rng.choice(["a ", "\U0001f600", "x"]) * (1 << 15)
        path, body = rng.choice(
            [
                ("/v1/embeddings", {"input": [text] * 8}),
                ("/v1/embeddings", {"input": [text * 4]}),
                ("/v1/steering", {"query": text}),
            ]
        )
        self._post("vectors", body, path, 200, 400)

    def scores(self, rng: random.Random) -> None:
        """As many log-probabilities as are allowed, or more."""
        too_many = {"messages": [{"role": "user", "content": "a"}], "n": 128, "logprobs": True, "top_logprobs": 20}
        most = {"prompt": "a b " * 25, "echo": True, "n": 100, "logprobs": 20, "max_tokens": 0, "model": "base"}
        if rng.random() < 0.5:
            return self._post("scores", too_many, PATH, 400)
        return self._post("scores", most | {"stream": rng.random() < 0.5}, "/v1/completions", 200)

    def malformed(self, rng: random.Random) -> None:
        """What is no request."""
        bodies = [b"{", b"\xff", b"[" * 10_000, {"messages": 5}, {"messages": [], "unknown": 1}, b"null", b""]
        self._post("malformed", rng.choice(bodies), PATH, 400)

    def large(self, _rng: random.Random) -> None:
        """A body over the limit, sent to its end."""
        self._post("large", b" " * (8 * _MEGABYTE), PATH, 413)

    def cancel(self, rng: random.Random) -> None:
        """Leave an answer before it is complete."""
        asked = {"messages": [{"role": "user", "content": "go on"}], "model": "base", "max_tokens": 200, "n": 50}
        content = json.dumps(asked | {"stream": rng.random() < 0.5}).encode()
        with self._connect() as link:
            link.sendall(self._head(len(content)) + content)
            time.sleep(rng.random() / 10)
        self._seen.note("cancel")

    def slow(self, rng: random.Random) -> None:
        """Read an answer byte by byte, and leave."""
        asked = {"messages": [{"role": "user", "content": "go on"}], "model": "base", "max_tokens": 20, "stream": True}
        content = json.dumps(asked | {"logprobs": True, "top_logprobs": 20}).encode()
        with self._connect() as link:
            link.sendall(self._head(len(content)) + content)
            for _ in range(rng.randrange(20)):
                link.recv(1)
                time.sleep(0.01)
        self._seen.note("slow")

    def idle(self, rng: random.Random) -> None:
        """Many connections without a request, or with half of one."""
        halves = [b"", b"GET /hea", self._head(100)]
        with ExitStack() as links:
            for _ in range(self._n_idle):
                link = links.enter_context(self._connect())
                try:
                    link.sendall(rng.choice(halves))
                except ConnectionError:  # already closed for newer ones
                    continue
            time.sleep(0.2)
        self._seen.note("idle")

    def endless(self, _rng: random.Random) -> None:
        """A GET with a body that does not end; the server must hang up or answer with 400."""
        with self._connect() as link:
            link.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(64):
                link.sendall(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            answer = link.recv(12)
        self._seen.note("endless", "" if answer == b"HTTP/1.1 400" else f"answered with {answer!r}")

    KINDS = (flood, vectors, scores, malformed, large, cancel, slow, idle, endless)


def attempt(act: Callable[[random.Random], None], rng: random.Random, seen: Seen, kind: str) -> None:
    """Act once; a lost connection is wrong."""
    try:
        act(rng)
    except (OSError, http.client.HTTPException) as error:
        seen.note(kind, repr(error))
