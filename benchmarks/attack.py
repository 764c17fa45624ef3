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
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import atv_local
from benchmarks.attackers import PATIENCE, Attacker, Honest, attempt
from benchmarks.json_lines import append_lines
from benchmarks.server_process import Question, Seen, server
from benchmarks.tasks import load_tasks

_LONGEST_WAIT = 2.0
"""Seconds until a bystander's first byte while one client attacks."""
_GROWTH = 1.1
"""Resident memory at the end, in parts of what it was when half of the requests were answered: llama.cpp, ONNX Runtime
and the allocator keep what their largest request took, in each context."""
_SAMPLES = 10
_DESCRIPTORS = 16


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


def mixed(
    address: str, asked: list[Question], control: str, options: argparse.Namespace, process: psutil.Process
) -> tuple[Seen, list[float], tuple[int, int]]:
    """All clients at once: what they saw, megabytes of memory on the way, and descriptors before and after."""
    seen, numbers = Seen(), iter(range(options.requests))
    honest, attacker = Honest(address, asked, seen), Attacker(address, control, seen, n_idle=20)
    memory: list[float] = []

    def client(seed: int) -> None:
        rng = random.Random(1000 * options.seed + seed)
        for number in take(numbers, seen.lock):
            if number % max(1, options.requests // _SAMPLES) == 0:
                memory.append(megabytes(process))
            if rng.random() < 0.6:
                attempt(honest, rng, seen, "honest")
            else:
                kind = rng.choice(Attacker.KINDS)
                attempt(lambda rng, kind=kind: kind(attacker, rng), rng, seen, kind.__name__)  # type: ignore[misc]

    at_rest = process.num_fds()
    clients = [threading.Thread(target=client, args=[seed]) for seed in range(options.clients)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    until = time.monotonic() + 20  # what was left behind is closed within 15 s
    while process.num_fds() > at_rest + _DESCRIPTORS and time.monotonic() < until:
        time.sleep(0.1)
    return seen, [*memory, megabytes(process)], (at_rest, process.num_fds())


def megabytes(process: psutil.Process) -> float:
    """Resident memory."""
    return float(round(process.memory_info().rss / (1 << 20), 1))


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
        while time.monotonic() < until or len(seen.seconds) < 2:
            attempt(bystander, rng, seen, f"bystander of {kind.__name__}")
            time.sleep(0.01)
        stop.set()
        thread.join()
        attacks.wrong += seen.wrong
        attacks.kinds["bystander"] += len(seen.seconds)
        waits[kind.__name__] = {"requests": len(seen.seconds)} | spread(seen.seconds)
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
    parser.add_argument("--output", type=Path, help="append the record to this file")
    options = parser.parse_args(arguments)
    bundles = dict(given.split("=", 1) for given in options.bundle or ["demo=demo"])
    asked = questions(options.model, bundles)
    engine = atv_local.load(options.model, off=True)
    control = engine.target.vocabulary.bos_text or engine.target.vocabulary.eos_text
    engine.close()
    serving = ["-t", "1", "--parallel", "4", "--queue", "64"] + (["-m", options.model] if options.model else [])
    for name, bundle in bundles.items():
        serving += ["-g", f"{name}={bundle}"]
    with server(*serving) as served:
        address, process, log = served.address, served.process, served.log
        started = time.monotonic()
        seen, memory, descriptors = mixed(address, asked, control, options, psutil.Process(process.pid))
        seconds = time.monotonic() - started
        attacks, waits = alone(address, asked, control, options)
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("GET", "/health")
        health = json.load(connection.getresponse())
    failures = {
        "wrong": seen.wrong + attacks.wrong,
        "waits": [kind for kind, wait in waits.items() if wait["max"] > _LONGEST_WAIT],
        "memory": [f"{memory}"] if memory[-1] > memory[len(memory) // 2] * _GROWTH else [],
        "descriptors": [f"{descriptors}"] if descriptors[1] > descriptors[0] + _DESCRIPTORS else [],
        "tracebacks": [line for line in log if line.startswith("Traceback")],
        "exit": [] if process.returncode == 0 and health["status"] == "ok" else [f"{process.returncode} {health}"],
    }
    record = {
        "requests": dict(seen.kinds),
        "seconds": round(seconds, 1),
        "bundles": len(bundles),
        "first_byte_s": spread(seen.seconds),
        "alone": dict(attacks.kinds),
        "first_byte_of_bystander_s": waits,
        "resident_mb": memory,
        "descriptors": descriptors,
        "failures": {name: found[:10] for name, found in failures.items() if found},
    }
    print(json.dumps(record, indent=1))
    if options.output:
        append_lines(options.output, [{"what": "attack"} | record])
    if record["failures"]:
        sys.stderr.writelines(log[-100:])
    return 1 if record["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
