"""A command at a terminal of its own, as a person types there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Terminal:
    """A process whose terminal this is, and what it wrote there so far."""

    process: subprocess.Popen[bytes]
    parent: int
    seen: str = ""
    _data: bytes = field(default=b"", repr=False)

    def type(self, text: str) -> None:
        self.seen, self._data = "", b""
        os.write(self.parent, text.encode())

    def interrupt(self) -> str:
        """Type Ctrl-C until it is noticed: readline does not see one that comes just before it waits for a key."""
        while True:
            self.type("\x03")
            if self._found("stopped|Ctrl-D", seconds=5):
                return self.until(">>> ")

    def until(self, pattern: str) -> str:
        """Read until this regular expression is found; what was written since the last line typed."""
        assert self._found(pattern, seconds=120), self.seen
        return self.seen

    def _found(self, pattern: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen, re.DOTALL):
            ready, _, _ = select.select([self.parent], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            try:
                part = os.read(self.parent, 4096)
            except OSError:  # as a terminal whose other end is closed
                part = b""
            assert part, self.seen
            self._data += part
            self.seen = self._data.decode(errors="replace")
        return True


@contextmanager
def terminal(*arguments: str, home: Path) -> Iterator[Terminal]:
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "100", "XDG_STATE_HOME": str(home), "HOME": str(home)}

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that ^C reaches the process

    process = subprocess.Popen(
        [sys.executable, "-m", "atv_cli", *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509  # one system call
    )
    os.close(child)
    try:
        yield Terminal(process, parent)
    finally:
        process.kill()
        process.wait()
        os.close(parent)
