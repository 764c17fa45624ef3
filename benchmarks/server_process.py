"""`atv-local serve` in a process of its own, and what clients of it have seen."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

PATH = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs until its context ends.

    Args:
        process: what was started.
        address: host and port.
        log: lines of its stderr so far.
    """

    process: subprocess.Popen[str]
    address: str
    log: list[str]


@contextmanager
def server(*options: str) -> Iterator[ServerProcess]:
    """`atv-local serve` at a free port."""
    command = [sys.executable, "-m", "atv_cli", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        lines = process.stderr
        assert lines is not None
        log = [lines.readline()]
        reader = threading.Thread(target=lambda: log.extend(lines))  # a full pipe would stop the server
        reader.start()
        yield ServerProcess(process, urlsplit(log[0].split()[0]).netloc, log)
        process.terminate()
        reader.join()


@dataclass(frozen=True)
class Question:
    """A request, and the answer that it must get."""

    body: dict[str, Any]
    answer: str


@dataclass
class Seen:
    """What clients have met; for several threads."""

    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, wrong: str = "") -> None:
        """One request ended so."""
        with self.lock:
            self.kinds[kind] += 1
            if wrong:
                self.wrong.append(f"{kind}: {wrong}")
