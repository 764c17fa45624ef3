"""Published results that are older than the code they measure.

python -m benchmarks.freshness [accept FILE ... --because TEXT | measured FILE ...]

Without a command it names each file of benchmarks/results whose code has changed since it was measured or accepted,
with the changed files, and ends with 1 if there is any. `accept` is for changes that cannot move the figures,
`measured` for results that were measured with the code as it is. Both write benchmarks/freshness.jsonl, which has a
line for each result with the code that it measures (edited by hand), for each reason that was given, and for each file
of the code with its fingerprint.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from benchmarks.code_fingerprint import Fingerprints, read_code
from benchmarks.json_lines import RESULTS, Record, json_lines

ROOT = Path(__file__).parent.parent
LOCK = Path(__file__).with_suffix(".jsonl")
COMMAND = "python -m benchmarks.freshness"
SHOWN = 5
"""Changed files that are named, of each result."""


@dataclass
class Result:
    """A published file and the code that it measures.

    Args:
        code: files and folders, from the root of the repository.
        measured: the day that `measured` wrote down; None if it never did.
        known: the code when it was last measured or accepted.
    """

    code: list[str]
    measured: str | None = None
    known: Fingerprints = field(default_factory=dict)

    def covers(self, file: str) -> bool:
        """Whether it measures this file."""
        return any(file == item or file.startswith(f"{item}/") for item in self.code)

    def select(self, present: Fingerprints) -> Fingerprints:
        """Its part of all code."""
        return {file: value for file, value in present.items() if self.covers(file)}

    def find_changes(self, present: Fingerprints) -> list[str]:
        """The files that are not as they were."""
        now, before = self.select(present), self.known
        notes = dict.fromkeys(now.keys() - before, " (new)") | dict.fromkeys(before.keys() - now, " (removed)")
        return [file + notes.get(file, "") for file in sorted(now | before) if now.get(file) != before.get(file)]


@dataclass
class Lock:
    """What benchmarks/freshness.jsonl has: results by file, and lines with a reason and the results it is for."""

    results: dict[str, Result]
    reasons: list[Record]

    @classmethod
    def read(cls, path: Path) -> Lock:
        """A line about a file of the code counts for all results that measure it, unless it names some."""
        lines = json_lines(path)
        results = {line["result"]: Result(line["code"], line["measured"]) for line in lines if "result" in line}
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
            yield {"result": name, "measured": result.measured, "code": result.code}
            for item in result.known.items():
                knowing[item].append(name)
        yield from self.reasons
        for (file, value), names in sorted(knowing.items()):
            line = {"file": file, "fingerprint": value}
            yield line if names == [name for name, one in results if one.covers(file)] else line | {"results": names}

    def accept(self, names: Collection[str], present: Fingerprints, because: str) -> None:
        """Note that what changed cannot move the figures, and why."""
        for name in names:
            self.results[name].known = self.results[name].select(present)
        self.reasons.append({"accepted": date.today().isoformat(), "because": because, "results": sorted({*names})})

    def note_measured(self, names: Collection[str], present: Fingerprints) -> None:
        """Note that the figures are those of the present code; earlier reasons are no longer needed."""
        for name in names:
            code = self.results[name].code
            self.results[name] = Result(code, date.today().isoformat(), self.results[name].select(present))
        left = [line | {"results": [name for name in line["results"] if name not in names]} for line in self.reasons]
        self.reasons = [line for line in left if line["results"]]

    def find_stale(self, present: Fingerprints) -> dict[str, list[str]]:
        """Results whose code has changed, with the changed files."""
        found = {name: result.find_changes(present) for name, result in sorted(self.results.items())}
        return {name: files for name, files in found.items() if files}

    def find_mistakes(self, published: Collection[str], present: Fingerprints) -> Iterator[str]:
        """Results without a line, lines without a result, and what they lack."""
        for name in sorted({*published} - {*self.results}):
            line = json.dumps({"result": name, "measured": None, "code": ["atv_local"]})
            yield f"{name} is not in {LOCK.name}: add a line such as {line}, then {COMMAND} measured {name}"
        accepted = {name for line in self.reasons for name in line["results"]}
        for name, result in sorted(self.results.items()):
            if name not in published:
                yield f"{name} is in {LOCK.name} but not in benchmarks/{RESULTS.name}: remove its line"
            elif result.measured is None and name not in accepted:
                yield f"{name} is neither measured nor accepted: {COMMAND} measured {name}"
            for item in result.code:
                if not any(map(Result([item]).covers, present)):
                    yield f"{name} measures {item}, which has no Python file: correct its line in {LOCK.name}"


def find_problems(lock: Lock, published: Collection[str], present: Fingerprints) -> Iterator[str]:
    """What is wrong, and the way out, one line each."""
    yield from lock.find_mistakes(published, present)
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
    present = read_code(ROOT, (item for result in lock.results.values() for item in result.code))
    if not arguments.command:
        problems = list(find_problems(lock, [path.name for path in RESULTS.iterdir()], present))
        print(*problems, sep="\n", end="\n" if problems else "")
        raise SystemExit(bool(problems))
    if unknown := sorted({*arguments.files} - {*lock.results}):
        parser.error(f"{', '.join(unknown)}: not in {LOCK.name}")
    if arguments.command == "measured":
        lock.note_measured(arguments.files, present)
    elif not (because := arguments.because.strip()):
        parser.error("--because is empty; say why the figures cannot have moved")
    elif fresh := sorted({*arguments.files} - {*lock.find_stale(present)}):
        parser.error(f"{', '.join(fresh)}: not older than the code, so there is nothing to accept")
    else:
        lock.accept(arguments.files, present, because)
    lock.write(LOCK)


if __name__ == "__main__":
    main()
