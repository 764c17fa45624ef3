"""Run `atv-local` in forks of this process, which has imported what is slow to import, with strace if wanted."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

CALLS = (
    "open,openat,creat,mkdir,mkdirat,write,writev,pwrite64,ftruncate,truncate,fallocate,fsync,fdatasync,flock,rename,"
    "renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,chmod,fchmod,copy_file_range,sendfile"
)
"""Those that open or change files."""
SLOW = (
    "atv_cli.main",
    "atv_eval.evaluation",
    "atv_export.export_bundle",
    "atv_local.batch.batch",
    "atv_train.training_run",
    "gguf",
    "matplotlib.figure",
    "onnxruntime",
)
KILLED = -signal.SIGKILL


def import_all() -> None:
    """Import what the commands need, and start no threads."""
    for name in SLOW:
        importlib.import_module(name)


class Run:
    """One command in a fork.

    Args:
        arguments: of `atv-local`.
        log: for stdout and stderr.
        strace: options of strace, which is then attached before the command begins.
    """

    def __init__(self, arguments: Sequence[str], log: Path, strace: Sequence[str] = ()) -> None:
        self.log = log
        begin, go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(go)
            _run(arguments, log, begin)
        os.close(begin)
        self._tracer = self._attach(strace) if strace else None
        os.close(go)

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        if self._tracer:
            self._tracer.wait()
        return os.waitstatus_to_exitcode(status)

    def _attach(self, options: Sequence[str]) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        tracer = subprocess.Popen(["strace", "-f", "-p", str(self.pid), *options], stdout=quiet, stderr=quiet)
        while re.search(r"TracerPid:\t0\n", Path(f"/proc/{self.pid}/status").read_text()):
            if tracer.poll() is not None:
                raise RuntimeError("strace cannot attach here")
            time.sleep(0.002)
        time.sleep(0.05)  # it has seized the process, and soon stops it
        return tracer


def _run(arguments: Sequence[str], log: Path, begin: int) -> NoReturn:
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.read(begin, 1)  # until the parent closes its end
        sys.argv[1:] = arguments
        runpy.run_module("atv_cli", run_name="__main__")
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def in_fork(function: Callable[[], Any]) -> Any:
    """The result of a function called in a fork, so that this process starts no threads of its own.

    Raises:
        Exception: what the function raised.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            result = (True, function())
        except Exception as error:
            result = (False, f"{type(error).__name__}: {error}")
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        good, result = pickle.load(pipe)
    os.waitpid(pid, 0)
    if not good:
        raise RuntimeError(result)
    return result
