"""Published results that are older than the code they measure.

python -m benchmarks.freshness [accept FILE ... --because TEXT | measured FILE ...]

Without a command it names each file of benchmarks/results whose code has changed since it was measured or accepted,
with the changed files, and each that has itself changed since then; it ends with 1 if there is any. `accept` is for
changes that cannot move the figures, `measured` for results that were measured with the code as it is. Both write
benchmarks/freshness.jsonl, which has a line for each result, for each reason that was given, and for each file of the
code, with fingerprints.

The line of a result has the code that it measures, which is edited by hand: files, and folders with their Python files.
Of a folder with a slash at its end all files count. A bundle is named by its atv.json, which has hashes of its files.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

from benchmarks.code_fingerprint import Fingerprints, covers, fingerprint, read_code
from benchmarks.json_lines import RESULTS, Record, json_lines

ROOT = Path(__file__).parent.parent
LOCK = Path(__file__).with_suffix(".jsonl")
COMMAND = "python -m benchmarks.freshness"
PUBLISHED = {".md", ".jsonl"}
"""Ends of the names of results."""
SHOWN = 5
"""Changed files that are named, of each result."""


@dataclass
class Result:
    """A published file and the code that it measures.

    Args:
        code: files and folders, from the root of the repository.
        measured: the day that `measured` wrote down; None if it never did.
        fingerprint: the published file when it was last measured or accepted; None if it never was.
        known: the code at that time.
    """

    code: list[str]
    measured: str | None = None
    fingerprint: str | None = None
    known: Fingerprints = field(default_factory=dict)

    def covers(self, file: str) -> bool:
        """Whether it measures this file."""
        return any(covers(item, file) for item in self.code)

    def select(self, present: Fingerprints) -> Fingerprints:
        """Its part of all code."""
        return {file: value for file, value in present.items() if self.covers(file)}

    def find_changes(self, present: Fingerprints) -> list[str]:
        """The files that are not as they were."""
        now, before = self.select(present), self.known
        notes = dict.fromkeys(now.keys() - before, " (new)") | dict.fromkeys(before.keys() - now, " (removed)")
        return [file + notes.get(file, "") for file in sorted(now | before) if now.get(file) != before.get(file)]


class Present(NamedTuple):
    """Fingerprints as they are now: of the code, and of published files by name."""

    code: Fingerprints
    results: Fingerprints

    @classmethod
    def read(cls, code: Iterable[str]) -> Present:
        """Of all files and folders of code."""
        published = (path for path in RESULTS.glob("[!.]*") if path.suffix in PUBLISHED)
        return cls(read_code(ROOT, code), {path.name: fingerprint(path) for path in published})


@dataclass
class Lock:
    """What benchmarks/freshness.jsonl has: results by file, and lines with a reason and the results it is for."""

    results: dict[str, Result]
    reasons: list[Record]

    @classmethod
    def read(cls, path: Path) -> Lock:
        """A line about a file of the code counts for all results that measure it, unless it names some."""
        lines = json_lines(path)
        results = {
            line["result"]: Result(line["code"], line["measured"], line.get("fingerprint"))
            for line in lines
            if "result" in line
        }
        for line in (line for line in lines if "file" in line):
            for name in line.get("results", results):
                if name in results and results[name].covers(line["file"]):
                    results[name].known[line["file"]] = line["fingerprint"]
        return cls(results, [line for line in lines if "because" in line])

    def write(self, path: Path) -> None:
        """In an order in which a change of a file changes its line alone."""
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in self._lines()]
        path.write_text("".join(lines), encoding="utf-8")

    def _lines(self) -> Iterator[Record]:
        results, knowing = sorted(self.results.items()), defaultdict(list)
        for name, result in results:
            facts = {"measured": result.measured, "fingerprint": result.fingerprint, "code": result.code}
            yield {"result": name} | facts
            for item in result.known.items():
                knowing[item].append(name)
        yield from self.reasons
        for (file, value), names in sorted(knowing.items()):
            line = {"file": file, "fingerprint": value}
            yield line if names == [name for name, one in results if one.covers(file)] else line | {"results": names}

    def accept(self, names: Collection[str], present: Present, because: str) -> None:
        """Note that what changed cannot move the figures, and why."""
        self._record(names, present)
        self.reasons.append({"accepted": date.today().isoformat(), "because": because, "results": sorted({*names})})

    def note_measured(self, names: Collection[str], present: Present) -> None:
        """Note that the figures are those of the present code; earlier reasons are no longer needed."""
        self._record(names, present)
        for name in names:
            self.results[name].measured = date.today().isoformat()
        left = [line | {"results": [name for name in line["results"] if name not in names]} for line in self.reasons]
        self.reasons = [line for line in left if line["results"]]

    def _record(self, names: Collection[str], present: Present) -> None:
        for name in names:
            result = self.results[name]
            known = result.select(present.code)
            self.results[name] = replace(result, fingerprint=present.results[name], known=known)

    def find_stale(self, present: Present) -> dict[str, list[str]]:
        """Results whose code has changed, with the changed files."""
        found = {name: result.find_changes(present.code) for name, result in sorted(self.results.items())}
        return {name: files for name, files in found.items() if files}

    def find_rewritten(self, present: Present) -> set[str]:
        """Published files that are not as they were, or that nothing is known of."""
        return {name for name, one in self.results.items() if one.fingerprint != present.results.get(name)}

    def find_mistakes(self, present: Present) -> Iterator[str]:
        """Results without a line, lines without a result, results that have changed, and what lines lack."""
        for name in sorted({*present.results} - {*self.results}):
            line = json.dumps({"result": name, "measured": None, "code": ["atv_local"]})
            yield f"{name} is not in {LOCK.name}: add a line such as {line}, then {COMMAND} measured {name}"
        accepted = {name for line in self.reasons for name in line["results"]}
        for name, result in sorted(self.results.items()):
            if name not in present.results:
                yield f"{name} is in {LOCK.name} but not in benchmarks/{RESULTS.name}: remove its line"
            elif result.fingerprint is None or (result.measured is None and name not in accepted):
                yield f"{name} is neither measured nor accepted: {COMMAND} measured {name}"
            elif result.fingerprint != present.results[name]:
                yield f"{name} has changed since it was recorded: {COMMAND} measured {name}, or accept it"
            for item in result.code:
                if not any(covers(item, file) for file in present.code):
                    what = "file" if item.endswith("/") else "Python file (all files count with a slash at the end)"
                    yield f"{name} measures {item}, which has no {what}: correct its line in {LOCK.name}"


def find_problems(lock: Lock, present: Present) -> Iterator[str]:
    """What is wrong, and the way out, one line each."""
    yield from lock.find_mistakes(present)
    stale = lock.find_stale(present)
    for name, files in stale.items():
        more = f" and {len(files) - SHOWN} more files" if len(files) > SHOWN else ""
        yield f"{name} is older than {', '.join(files[:SHOWN])}{more}"
    if stale:
        again = "python -m benchmarks.remeasure --only FILE --to NEW_FOLDER"
        yield f"Measure again: {again}; copy it to benchmarks/{RESULTS.name}; {COMMAND} measured FILE"
        yield f'Where the changes cannot move the figures: {COMMAND} accept {" ".join(stale)} --because "TEXT"'


def main() -> None:
    """Check, or write down what was accepted or measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    accept = commands.add_parser("accept", help="what changed in the code cannot move the figures")
    measured = commands.add_parser("measured", help="the figures are those of the code as it is")
    for command in (accept, measured):
        command.add_argument("files", nargs="+", metavar="FILE", help="in benchmarks/results, such as eval.md")
    accept.add_argument("--because", required=True, metavar="TEXT", help="why they cannot")
    arguments = parser.parse_args()
    lock = Lock.read(LOCK)
    present = Present.read(item for result in lock.results.values() for item in result.code)
    if not arguments.command:
        problems = list(find_problems(lock, present))
        print(*problems, sep="\n", end="\n" if problems else "")
        raise SystemExit(bool(problems))
    names, stale, rewritten = {*arguments.files}, {*lock.find_stale(present)}, lock.find_rewritten(present)
    for known, place in ((lock.results, LOCK.name), (present.results, f"benchmarks/{RESULTS.name}")):
        if unknown := sorted(names - {*known}):
            parser.error(f"{', '.join(unknown)}: not in {place}")
    if arguments.command == "measured":
        if old := sorted(names & stale - rewritten):
            same = "as recorded, though the code has changed. If it was measured again and came out the same, accept it"
            parser.error(f"{', '.join(old)}: {same}")
        lock.note_measured(names, present)
    elif not (because := arguments.because.strip()):
        parser.error("--because is empty; say why the figures cannot have moved")
    elif fresh := sorted(names - stale - rewritten):
        parser.error(f"{', '.join(fresh)}: as recorded and not older than the code, so there is nothing to accept")
    else:
        lock.accept(names, present, because)
    lock.write(LOCK)


if __name__ == "__main__":
    main()
