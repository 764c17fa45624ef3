"""Run `atv-local` on mutated GGUFs, chat templates and bundles, each in a process of its own.

Every run must end within 10 seconds and 2 GB, with an answer or one sentence: no signal, no traceback. One JSON record
on stdout; exit code 1 if a run did not. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.json_lines import append_lines
from tests import tiny

SECONDS, BYTES = 10.0, 2 << 30
"""What a run may take. On a busy machine `--patience` multiplies the seconds."""
NUMBERS = (0, 1, 2, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)
PIECES = (
    "{{ messages[0].content }}",
    "{% for m in messages %}{{ m.role }}: {{ m['content'] }}\n{% endfor %}",
    "{% for a in range(10**7) %}{{ a }}{% endfor %}",
    "{{ range(10**9)|list|length }}",
    "{{ 'a' * 10**10 }}",
    "{{ bos_token }}{{ eos_token }}",
    "{% set n = namespace(x='ab') %}{% for a in range(50) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "{{ messages.__class__.__mro__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ raise_exception('no') }}",
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{{ '%099999999d' % 1 }}",
    "{% include 'x' %}",
    "{{ undefined.attribute.of.nothing }}",
    "{{ 1 / 0 }}",
    "{%",
    "{{ 9 ** 9 ** 9 }}",
)


def mutate(data: bytes, draw: random.Random, head: int) -> bytes:
    """A copy with one to four changes within the first `head` bytes, or cut off anywhere."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(max(1, min(head, len(changed))))
        match draw.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                changed[at : at + 4] = struct.pack("<I", draw.choice(NUMBERS) % (1 << 32))
            case 2:
                changed[at : at + 8] = struct.pack("<Q", draw.choice(NUMBERS))
            case 3:
                del changed[at : at + draw.randint(1, 64)]
            case 4:
                changed[at:at] = changed[at : at + draw.randint(1, 64)]
            case _:
                del changed[draw.randrange(max(1, len(changed))) :]
    return bytes(changed)


class Mutations:
    """Makes the files and runs the program on them.

    Args:
        folder: for all files.
        patience: factor on the seconds that a run may take.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder, self.patience = folder, patience
        self.model = tiny.write_gguf(folder / "tiny.gguf")
        self.bundle = tiny.write_bundle(
            folder / "tiny", self.model, tiny.write_rows(folder / "rows.jsonl"), tiny.fit(self.model)
        )

    def gguf(self, draw: random.Random) -> list[str]:
        """Arguments of a run on a mutated model."""
        data = self.model.read_bytes()
        path = self.folder / "mutated.gguf"
        path.write_bytes(mutate(data, draw, data.index(b"blk.0.") + 4096))
        return ["run", "-m", str(path), "--off", "-n", "2", "a b"]

    def template(self, draw: random.Random) -> list[str]:
        """Arguments of a run on a model with another chat template."""
        template = "".join(draw.choices(PIECES, k=draw.randint(1, 4)))
        if draw.random() < 0.5:
            template = mutate(template.encode(), draw, len(template)).decode("utf-8", "replace").replace("\0", "")
        path = tiny.write_gguf(self.folder / "mutated.gguf", template=template or "x")
        return ["run", "-m", str(path), "--off", "-n", "2", "a b"]

    def mutated_bundle(self, draw: random.Random) -> list[str]:
        """Arguments of a run with a bundle of which one file is mutated; its manifest agrees unless that is the one."""
        copy = self.folder / "mutated"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.bundle, copy)
        manifest = copy / "atv.json"
        name = draw.choice(["atv.json", *json.loads(manifest.read_text())["files"]])
        data = mutate((copy / name).read_bytes(), draw, 1 << 20)
        (copy / name).write_bytes(data)
        if name != "atv.json":
            content = json.loads(manifest.read_text())
            content["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            manifest.write_text(json.dumps(content))
        return ["run", "-m", str(self.model), "-g", str(copy), "-n", "2", "a b"]

    def outcome(self, arguments: list[str]) -> str:
        """`answered`, `refused`, or what went wrong."""
        errors = self.folder / "stderr"
        began = time.monotonic()
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "atv_cli", *arguments],
            os.environ | {"XDG_CACHE_HOME": str(self.folder / "cache")},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            ],
        )
        _, status, usage = os.wait4(pid, 0)
        seconds, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
        stderr = errors.read_text(encoding="utf-8", errors="replace")
        if code < 0:
            return "signal"
        if "Traceback" in stderr:
            return "traceback"
        if seconds > SECONDS * self.patience:
            return "late"
        if usage.ru_maxrss * 1024 > BYTES:
            return "large"
        if code == 0:
            return "answered"
        return "refused" if code == 1 and len(stderr.splitlines()) == 1 else "unclear"


GOOD = {"answered", "refused"}


def main() -> int:
    """Run the mutations and print the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ggufs", type=int, default=1000)
    parser.add_argument("--templates", type=int, default=300)
    parser.add_argument("--bundles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=1.0, help="multiply the seconds that a run may take")
    parser.add_argument("--keep", type=Path, help="copy what went wrong to this folder")
    parser.add_argument("--output", type=Path, help="append the record to this file")
    given = parser.parse_args()
    record: dict[str, object] = {"seed": given.seed}
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        mutations = Mutations(Path(folder), given.patience)
        kinds: list[tuple[str, int, Callable[[random.Random], list[str]]]] = [
            ("ggufs", given.ggufs, mutations.gguf),
            ("templates", given.templates, mutations.template),
            ("bundles", given.bundles, mutations.mutated_bundle),
        ]
        for kind, count, make in kinds:
            seen: Counter[str] = Counter()
            for number in range(count):
                arguments = make(random.Random(f"{given.seed}/{kind}/{number}"))
                outcome = mutations.outcome(arguments)
                seen[outcome] += 1
                if outcome not in GOOD:
                    bad += 1
                    stderr = (Path(folder) / "stderr").read_text(errors="replace")[-500:]
                    print(f"{kind} {number}: {outcome}: {stderr}", file=sys.stderr)
                    _keep(given.keep, Path(folder), f"{kind}-{number}")
            record[kind] = dict(sorted(seen.items()))
    print(json.dumps(record))
    if given.output:
        append_lines(given.output, [{"what": "mutations", "failures": bad} | record])
    return int(bad > 0)


def _keep(place: Path | None, folder: Path, name: str) -> None:
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        for mutated in folder.glob("mutated*"):
            copy = shutil.copytree if mutated.is_dir() else shutil.copy
            copy(mutated, place / f"{name}-{mutated.name}")


if __name__ == "__main__":
    sys.exit(main())
