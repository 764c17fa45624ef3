"""`atv-local serve` beside `llama-server` of the same llama.cpp: many clients at a time, on the same machine.

python -m benchmarks.peers --build FOLDER [--clients 1 2 4 8 16] [--output benchmarks/results/peers.jsonl]

FOLDER gets the source package of the installed llama-cpp-python, and `llama-server` and `llama-bench` built from it,
once. Every server runs alone, with as many slots as there are clients and 2048 tokens for each. Clients send one
streamed request after the other, each with a prompt of its own; ours steers every one by its own vector, which the
generator makes, at a strength so low that answers are as long as without. A line of the output is one server under one
load: tokens written per second by all clients together, milliseconds until the first one, resident memory.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import atv_local
from atv_eval.bench import spread
from atv_local.names import embedded_model
from benchmarks.json_lines import append_lines
from benchmarks.server_process import JSON, PATH, server

N_CTX = 2048
STRENGTH = 0.05
WORDS = (
    "apple",
    "river",
    "stone",
    "lamp",
    "cloud",
    "tiger",
    "paper",
    "green",
    "iron",
    "salt",
    "honey",
    "glass",
    "wolf",
)
BINARIES = ("llama-server", "llama-bench")
OFF = ("-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_UI=OFF")


@dataclass(frozen=True)
class Load:
    """How many clients ask at a time, for how much, and how often each of them."""

    clients: int
    sentences: int
    max_tokens: int
    rounds: int


@dataclass
class Times:
    """What the clients of one load have seen."""

    first_ms: list[float] = field(default_factory=list)
    written: int = 0
    prompt: int = 0
    seconds: float = 0.0


def built(folder: Path) -> Path:
    """The folder with llama.cpp's programs, built if they are not there."""
    programs = folder / "build" / "bin"
    if all((programs / name).exists() for name in BINARIES):
        return programs
    package = f"llama-cpp-python=={version('llama-cpp-python')}"
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python", package]
    subprocess.run(pip, cwd=folder, check=True)
    with tarfile.open(next(folder.glob("llama_cpp_python-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    source = next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))
    build = folder / "build"
    subprocess.run(["cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *OFF], check=True)
    subprocess.run(["cmake", "--build", build, "-j", str(os.cpu_count()), "--target", *BINARIES], check=True)
    return programs


@contextmanager
def llama_server(programs: Path, slots: int, *options: str) -> Iterator[tuple[str, int]]:
    """The address and the process of `llama-server`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [programs / "llama-server", "-m", embedded_model(), "--port", port, "-np", slots, "-c", slots * N_CTX]
    threads = ["-t", _cores(), "--no-webui"]
    with subprocess.Popen(
        [*map(str, [*command, *threads]), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for(f"127.0.0.1:{port}")
            yield f"127.0.0.1:{port}", process.pid
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def our_server(slots: int, *options: str) -> Iterator[tuple[str, int]]:
    """The address and the process of `atv-local serve`."""
    with server("--parallel", str(slots), "--n-ctx", str(N_CTX), *options) as served:
        yield served.address, served.process.pid


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _wait_for(address: str) -> None:
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection(address, timeout=1)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"nothing answers at {address}")


def ask(
    address: str, prompt: str, max_tokens: int, more: Mapping[str, Any], times: Times, lock: threading.Lock
) -> None:
    """One streamed request."""
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "temperature": 0}
    body |= {"stream": True, "stream_options": {"include_usage": True}, **more}
    connection = http.client.HTTPConnection(address, timeout=600)
    started = time.perf_counter()
    connection.request("POST", PATH, json.dumps(body), JSON)
    response = connection.getresponse()
    first, usage = 0.0, dict[str, Any]()
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        usage = chunk.get("usage") or usage
        if not first and any(choice["delta"].get("content") for choice in chunk["choices"]):
            first = 1000 * (time.perf_counter() - started)
    if not usage:
        raise SystemExit(f"no answer: {response.status}")
    with lock:
        times.first_ms.append(first)
        times.written += usage["completion_tokens"]
        times.prompt += usage["prompt_tokens"]


def measure(address: str, load: Load, more: Mapping[str, Any]) -> Times:
    """All clients at the same time."""
    times, lock = Times(), threading.Lock()

    def client(number: int) -> None:
        for turn in range(load.rounds):
            words = random.Random(f"{load}/{number}/{turn}")  # no prompt begins like another one
            facts = ["The " + " ".join(words.choices(WORDS, k=18)) + "." for _ in range(load.sentences)]
            prompt = f"{words.choice(WORDS).title()} {' '.join(facts)} Tell a long story about it."
            ask(address, prompt, load.max_tokens, more, times, lock)

    threads = [threading.Thread(target=client, args=[number]) for number in range(load.clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.seconds = time.perf_counter() - started
    return times


def static_vector(folder: Path) -> Path:
    """A control vector for llama-server: that of one query, at the same strength."""
    path = folder / "static.gguf"
    if not path.exists():
        with atv_local.load() as engine:
            engine.control_vector(["where is my card?"]).save(path)
    return path


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--sentences", type=int, nargs="+", default=[1, 18], help="of a prompt: some 40 or 400 tokens")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8, 128], help="of an answer")
    parser.add_argument("--evaluated", type=int, default=6000, help="tokens of all requests of a load, about")
    parser.add_argument("--servers", nargs="+", help="by default all")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    programs = built(arguments.build)
    vector = ("--control-vector-scaled", f"{static_vector(arguments.build)}:{STRENGTH}")
    steered: dict[str, Any] = {"steering": {"strength": STRENGTH, "gate": 0}}
    for clients in arguments.clients:
        servers: dict[str, tuple[Any, dict[str, Any]]] = {
            "llama-server": (lambda: llama_server(programs, clients), {}),  # noqa: B023  # called in this turn
            "llama-server, static vector": (lambda: llama_server(programs, clients, *vector), {}),  # noqa: B023
            "atv-local, off": (lambda: our_server(clients, "--off"), {}),  # noqa: B023
            "atv-local, each its own vector": (lambda: our_server(clients), steered),  # noqa: B023
        }
        for name in arguments.servers or servers:
            start, more = servers[name]
            with start() as (address, pid):
                measure(address, Load(clients, 1, 8, 1), more)  # warms up
                for sentences in arguments.sentences:
                    for tokens in arguments.tokens:
                        rounds = max(1, min(8, round(arguments.evaluated / (20 + 23 * sentences + tokens) / clients)))
                        load = Load(clients, sentences, tokens, rounds)
                        record = _record(name, load, measure(address, load, more), pid)
                        print(json.dumps(record), flush=True)
                        if arguments.output:
                            append_lines(arguments.output, [record])


def _record(name: str, load: Load, times: Times, pid: int) -> dict[str, Any]:
    requests = load.clients * load.rounds
    first: Sequence[float] = sorted(times.first_ms)
    return {
        "server": name,
        "clients": load.clients,
        "prompt_tokens": round(times.prompt / requests),
        "max_tokens": load.max_tokens,
        "answer_tokens": round(times.written / requests, 1),
        "requests": requests,
        "tokens_per_second": round(times.written / times.seconds, 1),
        "first_ms": {"median": statistics.median(first), "p95": first[min(len(first) - 1, int(0.95 * len(first)))]},
        "spread_first_ms": spread(times.first_ms)._asdict(),
        "resident_mb": round(psutil.Process(pid).memory_info().rss / (1 << 20)),
        "threads": _cores(),
    }


if __name__ == "__main__":
    main()
