"""First use of a file from others in a process of its own, with limits on time and memory.

A good verdict is cached by a key that changes with the file, so that a process is started once per file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

from atv_local.errors import AtvError

_SECONDS = 8.0
"""CPU time for a small file; loading takes tenths of a second, starting Python as long again."""
_WAIT = 4
"""Times as long on the clock, since other programs may have the cores."""
_BYTES_PER_SECOND = 50e6
"""A slow disk: what a large file gets in addition."""
_MEMORY = 3 << 29
"""1.5 GiB beside the file's own size: the libraries take 0.3, a context of 2048 tokens of a large model 1."""


@dataclass(frozen=True)
class Failure:
    """Why a trial failed. If `explained`, `reason` is the whole message of an AtvError, else how the process ended."""

    reason: str
    explained: bool = False


def try_file(module: str, path: Path, *, key: str, size: int) -> Failure | None:
    """Run `python -m MODULE PATH`, which calls `report`, unless it went well before.

    Args:
        module: the program, part of this package.
        path: what it gets.
        key: changes when the file does.
        size: bytes of the file, by which the limits grow.

    Returns:
        None if it went well.
    """
    verdict = _verdict(f"{module}\n{key}")
    if (verdict and verdict.exists()) or not sys.executable:
        return None
    try:
        failure = _try(module, path, size)
    except OSError:  # no process to be had: as without trials
        return None
    if failure is None and verdict:
        with suppress(OSError):
            verdict.parent.mkdir(parents=True, exist_ok=True)
            verdict.touch()
    return failure


def _try(module: str, path: Path, size: int) -> Failure | None:
    package = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([package, *filter(None, sys.path)]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",  # a GPU's driver maps more memory than the limit
    }
    seconds = _SECONDS + size / _BYTES_PER_SECOND
    command = [sys.executable, "-P", "-m", module, os.fspath(path.absolute()), str(_MEMORY + 2 * size), str(seconds)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            output, _ = process.communicate(timeout=_WAIT * seconds)
        except subprocess.TimeoutExpired:
            return Failure(f"it takes longer than {_WAIT * seconds:.0f} s")
        finally:
            process.kill()  # also when this process is interrupted
    if process.returncode:
        return Failure(_death(process.returncode))
    try:
        found = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        return Failure("the process that tried it gave no result")
    return found and Failure(**found)


def report(attempt: Callable[[Path], None]) -> None:
    """The main program of a trial: limit this process, call `attempt` and print what it raises."""
    path, memory, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with suppress(ImportError):  # Windows has a time limit only
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for kind, limit in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, math.ceil(seconds))):
            with suppress(ValueError, OSError):  # a lower one holds already
                resource.setrlimit(kind, (limit, limit))
    failure = None
    try:
        attempt(path)
    except AtvError as error:
        failure = {"reason": str(error), "explained": True}
    except MemoryError:
        failure = {"reason": "it takes too much memory"}
    except BaseException as error:  # what the trial did not foresee, or a panic of the tokenizers library
        failure = {"reason": f"{type(error).__name__}: {error}"[:300]}
    sys.stdout.write("\n" + json.dumps(failure) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a library that fails as it is unloaded does not matter here


def _verdict(key: str) -> Path | None:
    for name in ("llama-cpp-python", "onnxruntime", "tokenizers", "jinja2"):  # another version may fail
        with suppress(PackageNotFoundError):
            key += f"\n{name} {version(name)}"
    try:
        folder = platformdirs.user_cache_path("atv-local", appauthor=False) / "tried"
    except RuntimeError:  # a user without a home
        return None
    return folder / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _death(code: int) -> str:
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"the process that tried it ended with exit code {code}"
    if name in ("SIGXCPU", "SIGKILL"):
        return "it takes too much time or memory"
    return f"the process that tried it ended with {name}"
