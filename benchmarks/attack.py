"""Attack the server: is any answer wrong, does one client make others wait, do memory or descriptors grow?

First 16 clients at once send honest requests over several bundles, each compared with what an engine answers alone,
and between them cancel, flood, read slowly, send malformed bodies and open idle connections. Then one attacker after
another attacks in one way, and a bystander measures how long the first byte of its answers takes. Prints one JSON
record; exits with 1 if anything is not as SECURITY.md promises.

    python -m benchmarks.attack [--requests 10000] [--clients 16] [-m GGUF] [-g NAME=BUNDLE]...
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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psutil

import atv_local
from benchmarks.load import Question
from benchmarks.serving import JSON, PATH, server
from benchmarks.tasks import load_tasks

_PATIENCE = 120
_LONGEST_WAIT = 2.0
"""Seconds until a bystander's first byte while one client attacks."""
_GROWTH = 128
"""Megabytes of resident memory from when a quarter of the requests were answered to the end: llama.cpp, ONNX Runtime
and the allocator keep what their largest request took, in each context."""
_DESCRIPTORS = 16
_MEGABYTE = 1 << 20


@dataclass
class Seen:
    """What clients have met; for several threads."""

    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, wrong: str = "") -> None:
        """One request ended so."""
        with self.lock:
            self.kinds[kind] += 1
            if wrong:
                self.wrong.append(f"{kind}: {wrong}")


def questions(model: str | None, bundles: dict[str, str | None]) -> list[Question]:
    """Queries of the tasks to each bundle and the base model, and what an engine answers to each alone."""
    queries = [query[:80] for task in load_tasks("test") for query, _ in task.rows[:4]][:12]
    found = []
    for name, bundle in bundles.items():
        engine = atv_local.load(model, bundle, n_threads=1)
        for number, query in enumerate(queries):
            off, max_tokens = number % 4 == 3, 1 + number % 7
            body = {"messages": [{"role": "user", "content": query}], "model": name, "max_tokens": max_tokens}
            answer = engine.answer(query, steering=atv_local.OFF if off else None, max_tokens=max_tokens)
            found.append(Question(body | ({"steering": False} if off else {}), answer.text))
        engine.close()
    return found


class Honest:
    """Asks what has a known answer."""

    def __init__(self, address: str, asked: list[Question], seen: Seen) -> None:
        self._address, self._asked, self._seen = address, asked, seen

    def __call__(self, rng: random.Random) -> None:
        """Ask something, streamed or not, and compare."""
        question, stream = rng.choice(self._asked), rng.random() < 0.5
        connection = http.client.HTTPConnection(self._address, timeout=_PATIENCE)
        started = time.monotonic()
        connection.request("POST", PATH, json.dumps(question.body | {"stream": stream}), JSON)
        response = connection.getresponse()
        content = response.read(1)
        self._seen.first.append(time.monotonic() - started)
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
        return socket.create_connection(self._where, timeout=_PATIENCE)

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


def mixed(
    address: str, asked: list[Question], control: str, options: argparse.Namespace, process: psutil.Process
) -> Any:
    """All clients at once; what they saw, and memory and descriptors when a quarter was answered and at the end."""
    seen, numbers, quarter = Seen(), iter(range(options.requests)), threading.Event()
    honest, attacker = Honest(address, asked, seen), Attacker(address, control, seen, n_idle=20)

    def client(seed: int) -> None:
        rng = random.Random(1000 * options.seed + seed)
        for number in take(numbers, seen.lock):
            if number >= options.requests // 4:
                quarter.set()
            if rng.random() < 0.6:
                attempt(honest, rng, seen, "honest")
            else:
                kind = rng.choice(Attacker.KINDS)
                attempt(lambda rng, kind=kind: kind(attacker, rng), rng, seen, kind.__name__)  # type: ignore[misc]

    at_rest = process.num_fds()
    clients = [threading.Thread(target=client, args=[seed]) for seed in range(options.clients)]
    for each in clients:
        each.start()
    quarter.wait()
    early = process.memory_info().rss
    for each in clients:
        each.join()
    until = time.monotonic() + 20  # what was left behind is closed within 15 s
    while process.num_fds() > at_rest + _DESCRIPTORS and time.monotonic() < until:
        time.sleep(0.1)
    memory, descriptors = (early, process.memory_info().rss), (at_rest, process.num_fds())
    return seen, memory, descriptors


def take(numbers: Iterator[int], lock: threading.Lock) -> Iterator[int]:
    """Numbers that several threads share."""
    while True:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        yield number


def alone(
    address: str, asked: list[Question], control: str, options: argparse.Namespace
) -> tuple[Seen, dict[str, Any]]:
    """One attacker in one way at a time; the first bytes of a bystander's answers meanwhile."""
    attacks, waits = Seen(), {}
    attacker = Attacker(address, control, attacks, n_idle=options.idle)
    for kind in Attacker.KINDS:
        seen, stop = Seen(), threading.Event()

        def attack(kind: Any = kind, stop: threading.Event = stop) -> None:
            rng = random.Random(options.seed)
            while not stop.is_set():
                attempt(lambda rng: kind(attacker, rng), rng, attacks, kind.__name__)

        thread = threading.Thread(target=attack)
        thread.start()
        bystander, rng = Honest(address, asked, seen), random.Random(options.seed)
        until = time.monotonic() + options.seconds
        while time.monotonic() < until or len(seen.first) < 2:
            attempt(bystander, rng, seen, f"bystander of {kind.__name__}")
            time.sleep(0.01)
        stop.set()
        thread.join()
        attacks.wrong += seen.wrong
        attacks.kinds["bystander"] += len(seen.first)
        waits[kind.__name__] = {"requests": len(seen.first)} | spread(seen.first)
    return attacks, waits


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum in seconds."""
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered), 4),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 4),
        "max": round(ordered[-1], 4),
    }


def main(arguments: list[str] | None = None) -> int:
    """Attack, print; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10, help="for each way to attack alone")
    parser.add_argument("--idle", type=int, default=1000, help="connections of one attacker")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-m", "--model")
    parser.add_argument("-g", "--bundle", action="append", metavar="NAME=BUNDLE")
    options = parser.parse_args(arguments)
    bundles = dict(given.split("=", 1) for given in options.bundle or ["demo=demo"])
    asked = questions(options.model, bundles)
    engine = atv_local.load(options.model, off=True)
    control = engine.target.vocabulary.bos_text or engine.target.vocabulary.eos_text
    engine.close()
    serving = ["-t", "1", "--parallel", "4", "--queue", "64"] + (["-m", options.model] if options.model else [])
    for name, bundle in bundles.items():
        serving += ["-g", f"{name}={bundle}"]
    log: list[str] = []
    with server(*serving) as (process, address):
        assert process.stderr is not None
        threading.Thread(target=lambda: log.extend(process.stderr or ()), daemon=True).start()
        started = time.monotonic()
        seen, memory, descriptors = mixed(address, asked, control, options, psutil.Process(process.pid))
        seconds = time.monotonic() - started
        attacks, waits = alone(address, asked, control, options)
        connection = http.client.HTTPConnection(address, timeout=_PATIENCE)
        connection.request("GET", "/health")
        health = json.load(connection.getresponse())
    failures = {
        "wrong": seen.wrong + attacks.wrong,
        "waits": [kind for kind, wait in waits.items() if wait["max"] > _LONGEST_WAIT],
        "memory": [f"{memory}"] if memory[1] > memory[0] + _GROWTH * _MEGABYTE else [],
        "descriptors": [f"{descriptors}"] if descriptors[1] > descriptors[0] + _DESCRIPTORS else [],
        "tracebacks": [line for line in log if line.startswith("Traceback")],
        "exit": [] if process.returncode == 0 and health["status"] == "ok" else [f"{process.returncode} {health}"],
    }
    record = {
        "requests": dict(seen.kinds),
        "seconds": round(seconds, 1),
        "bundles": len(bundles),
        "first_byte_s": spread(seen.first),
        "alone": dict(attacks.kinds),
        "first_byte_of_bystander_s": waits,
        "resident_mb": [round(value / _MEGABYTE, 1) for value in memory],
        "descriptors": descriptors,
        "failures": {name: found[:10] for name, found in failures.items() if found},
    }
    print(json.dumps(record, indent=1))
    if record["failures"]:
        sys.stderr.writelines(log[-100:])
    return 1 if record["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
