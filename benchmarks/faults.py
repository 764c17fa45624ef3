"""Faults while `atv-local` writes: a kill at every call that opens or changes a file, a full disk, two at once.

It needs strace, and runs on tiny models. One JSON record for each verb on stdout; exit code 1 if an output was lost or
torn, differs after a rerun, or a command ended in anything but one sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.fault_jobs import Job, jobs, write_inputs
from benchmarks.forked import CALLS, KILLED, Run, import_all, in_fork
from benchmarks.json_lines import append_lines

VERBS = ("vector", "batch", "eval", "calibrate", "export", "train")
WRITING = {"write", "writev", "pwrite64", "ftruncate", "fallocate", "fsync", "mkdir", "copy_file_range", "sendfile"}
"""Calls that a full disk lets fail, besides `openat` of a new file."""

Point = tuple[str, int]
"""A system call, and which one of that name."""


class Faults:
    """Runs one job again and again, and compares its outputs.

    Args:
        job: what to run.
        folder: where to run it.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.output = folder / "outputs" / job.output
        self.failures: list[str] = []
        self._log = folder / "log"
        self._saved = folder / "saved"
        shutil.rmtree(folder, ignore_errors=True)
        self.output.parent.mkdir(parents=True)
        self._alone(0)
        self.old = self._content()
        shutil.copytree(self.output.parent, self._saved)
        self._alone(1)
        self.new, self.names = self._content(), self._names()
        if self.old == self.new:
            raise RuntimeError(f"{job.verb}: both variants write {self.old}")

    def kill(self, count: int) -> dict[str, Any]:
        """Kill it at every call, evenly chosen if there are more than `count`."""
        points = _chosen(self._points(), count)
        unfinished = 0
        for call, number in points:
            self._restore()
            code = self._traced(f"inject={call}:signal=KILL:when={number}")
            if code != KILLED:
                self._failed(f"{call} {number}: exit code {code}")
                continue
            finished = self._check_kept(f"killed at {call} {number}")
            unfinished += not finished
            self._check_rerun(f"after a kill at {call} {number}", resume=not finished)
        return {"kills": len(points), "unfinished_outputs": unfinished}

    def fill(self, count: int) -> dict[str, Any]:
        """Let a call and all later ones of its name fail as on a full disk."""
        points = [point for point in self._points(creating=True) if point[0] in WRITING | {"openat"}]
        points = _chosen(points, count)
        codes: Counter[int] = Counter()
        for call, number in points:
            where = f"no space at {call} {number}"
            self._restore()
            code = self._traced(f"inject={call}:error=ENOSPC:when={number}+")
            codes[code] += 1
            said = self._log.read_text()
            if code not in (0, 1, 2) or "Traceback" in said:
                self._failed(f"{where}: exit code {code}: {said[-300:]}")
            finished = self._check_kept(where)
            self._check_rerun(where, resume=not finished)
        return {"full_disks": len(points), "exit_codes": dict(codes)}

    def pair(self, count: int) -> dict[str, Any]:
        """Run two commands with one output at the same time; the second begins a random time after the first."""
        draw = random.Random(0)
        outcomes: Counter[str] = Counter()
        begun = time.monotonic()
        self._alone(0)
        seconds = time.monotonic() - begun
        for number in range(count):
            self._restore()
            one = Run(self.job.command(self.output, 1), self._log)
            time.sleep(draw.random() ** 3 * seconds)
            other_log = self._log.with_name("log2")
            other = Run(self.job.command(self.output, 2), other_log)
            codes = one.wait(), other.wait()
            outcomes[" ".join(map(str, sorted(codes)))] += 1
            for code, log in zip(codes, (self._log, other_log), strict=True):
                said = log.read_text()
                if code not in (0, 2) or "Traceback" in said or (code == 2 and _sentences(said) != 1):
                    self._failed(f"pair {number}: exit code {code}: {said[-300:]}")
            content = self._content()
            allowed = ([self.new] if codes[0] == 0 else []) + ([self._third()] if codes[1] == 0 else [])
            if content not in (allowed or [self.old]):
                self._failed(f"pair {number} (exit codes {codes}): another content")
            if left := [name for name in self._names() if Path(name).name.startswith(".") or name.endswith(".partial")]:
                self._failed(f"pair {number}: left {left}")
        return {"pairs": count, "exit_codes": dict(outcomes)}

    def _alone(self, variant: int) -> None:
        if code := Run(self.job.command(self.output, variant), self._log).wait():
            raise RuntimeError(f"{self.job.verb}: exit code {code}: {self._log.read_text()}")

    def _content(self) -> Any:
        return in_fork(lambda: self.job.read(self.output))

    def _names(self) -> set[str]:
        return {path.relative_to(self.output.parent).as_posix() for path in self.output.parent.rglob("*")}

    def _third(self) -> Any:
        if not hasattr(self, "_content_of_third"):
            shutil.rmtree(self.output.parent)
            shutil.copytree(self._saved, self.output.parent)
            self._alone(2)
            self._content_of_third = self._content()
        return self._content_of_third

    def _restore(self) -> None:
        shutil.rmtree(self.output.parent)
        shutil.copytree(self._saved, self.output.parent)

    def _traced(self, inject: str) -> int:
        options = [option for path in self._paths for option in ("-P", path)]
        call = inject.removeprefix("inject=").partition(":")[0]
        return Run(
            self.job.command(self.output, 1),
            self._log,
            ["-o", "/dev/null", *options, "-e", f"trace={call}", "-e", inject],
        ).wait()

    def _points(self, *, creating: bool = False) -> list[Point]:
        """Every call on the outputs that a run makes, in order; of `openat` only what creates, if asked."""
        trace = self.folder / "trace"
        self._restore()
        Run(self.job.command(self.output, 1), self._log, ["-y", "-o", str(trace), "-e", f"trace={CALLS}"]).wait()
        parent = str(self.output.parent)
        found = re.findall(rf"{re.escape(parent)}[^\"<>,]*", trace.read_text())
        self._paths = sorted({path.removesuffix("(deleted)").rstrip() for path in found})
        self._restore()
        options = [option for path in self._paths for option in ("-P", path)]
        Run(self.job.command(self.output, 1), self._log, ["-o", str(trace), *options, "-e", f"trace={CALLS}"]).wait()
        numbers: Counter[tuple[str, str]] = Counter()
        points: dict[Point, None] = {}
        for line in trace.read_text().splitlines():
            if not (match := re.match(r"(\d+) +(\w+)\((.*)", line)):
                continue
            process, call, rest = match.groups()
            numbers[process, call] += 1  # strace counts for each thread
            if not creating or call != "openat" or "O_CREAT" in rest:
                points[call, numbers[process, call]] = None
        return list(points)

    def _check_kept(self, where: str) -> bool:
        """Whether the output is the old or the new one, rather than a new one that is not finished."""
        if not self.output.exists():
            self._failed(f"{where}: lost")
            return True
        try:
            content = self._content()
        except RuntimeError as error:
            content = error
        if content in (self.old, self.new):
            return True
        grown = self.job.grows and isinstance(content, list) and set(self.old) <= set(content) <= set(self.new)
        if not grown and self.job.resume is None:
            self._failed(f"{where}: torn: {content}")
        return False

    def _check_rerun(self, where: str, *, resume: bool) -> None:
        again = self.job.resume(self.output) if resume and self.job.resume else self.job.command(self.output, 1)
        if code := Run(again, self._log).wait():
            self._failed(f"{where}: the rerun ends with {code}: {self._log.read_text()[-300:]}")
            return
        if (content := self._content()) != self.new:
            self._failed(f"{where}: the rerun differs: {content}")
        if (names := self._names()) != self.names:
            self._failed(f"{where}: the rerun leaves {names ^ self.names}")

    def _failed(self, what: str) -> None:
        print(f"{self.job.verb}: {what}", file=sys.stderr)
        self.failures.append(what)


def _chosen(points: list[Point], count: int) -> list[Point]:
    if len(points) <= count:
        return points
    return [points[index * len(points) // count] for index in range(count)]


def _sentences(said: str) -> int:
    return sum(line.startswith("atv-local: ") for line in said.splitlines())


def main() -> int:
    """Run the faults and print the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fault", choices=("kill", "fill", "pair"))
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=VERBS)
    parser.add_argument("--count", type=int, default=1000, help="at most this many for each verb")
    parser.add_argument("--output", type=Path, help="append the record to this file")
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for record in measure(arguments.fault, arguments.verbs, arguments.count, Path(folder)):
            print(json.dumps(record), flush=True)
            if arguments.output:
                append_lines(arguments.output, [{"what": arguments.fault} | record])
            failed |= bool(record["failures"])
    return int(failed)


def measure(fault: str, verbs: tuple[str, ...], count: int, folder: Path) -> Any:
    """A record for each verb: what was done, and what went wrong."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    import_all()
    inputs = folder / "inputs"
    in_fork(lambda: write_inputs(inputs))
    known = jobs(inputs)
    if code := Run(known["train"].command(inputs / "run", 0), folder / "log").wait():
        raise RuntimeError(f"train: exit code {code}: {(folder / 'log').read_text()}")
    for verb in verbs:
        faults = Faults(known[verb], folder / verb)
        done = {"kill": faults.kill, "fill": faults.fill, "pair": faults.pair}[fault](count)
        yield {"verb": verb, **done, "failures": faults.failures}


if __name__ == "__main__":
    sys.exit(main())
