"""Kill `atv-local vector` at every call that makes, syncs, renames or removes a file; check the output and a rerun.

It needs strace. One JSON record on stdout; exit code 1 if an output was lost, torn, or differs after a rerun.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = "mkdir,unlink,unlinkat,rmdir,rename,renameat2,fsync,ftruncate"
"""The calls that change an output, besides writes to the temporary file."""
_KILLED = (-9, 137)


def main() -> int:
    """Run the kills and print the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="kill at most this many runs")
    parser.add_argument("--bundle", default="demo")
    arguments = parser.parse_args()
    record = kill_everywhere(arguments.bundle, arguments.count)
    print(json.dumps(record))
    return int(bool(record["lost"] or record["torn"] or record["rerun_differs"] or not record["kills"]))


def kill_everywhere(bundle: str, count: int) -> dict[str, int]:
    """Numbers of kills, and of outputs lost, torn and different after a rerun."""
    record = {"kills": 0, "lost": 0, "torn": 0, "rerun_differs": 0}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "v.gguf"
        command = [sys.executable, "-m", "atv_cli", "vector", "-g", bundle, "-o", str(output), "--overwrite"]
        old, new = (_written(output, [*command, query]) for query in ("old", "new"))
        for call in CALLS.split(","):
            number = 0
            while record["kills"] < count:
                number += 1
                output.write_bytes(old)
                inject = f"inject={call}:signal=KILL:when={number}"
                strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
                if (
                    subprocess.run([*strace, *command, "new"], capture_output=True, check=False).returncode
                    not in _KILLED
                ):
                    break  # there is no such call any more
                record["kills"] += 1
                record["lost"] += not output.exists()
                record["torn"] += output.exists() and output.read_bytes() not in (old, new)
                left = _written(output, [*command, "new"])
                record["rerun_differs"] += left != new or [path.name for path in output.parent.iterdir()] != ["v.gguf"]
    return record


def _written(output: Path, command: list[str]) -> bytes:
    subprocess.run(command, check=True, capture_output=True)
    return output.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
