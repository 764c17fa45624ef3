"""`atv-local batch --executor ray`: the bytes that one process writes, also when workers die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import ROOT

pytest.importorskip("ray", reason="needs atv-local[ray]")

N_ROWS = 400


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two CPUs on this machine, whose workers import this checkout."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / name) for name in (".", "plugins")))
        head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 << 20}
        running = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield running.address
        finally:
            running.shutdown()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [json.dumps({"input": f"row {n}", "id": n}) for n in range(N_ROWS)]
    lines[7], lines[200] = "no row", json.dumps({"input": "x" * 4000})
    file = tmp_path_factory.mktemp("rows") / "in.jsonl"
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module")
def options(tiny_gguf: Path, tiny_bundle: Path) -> list[str]:
    return ["-m", str(tiny_gguf), "-g", str(tiny_bundle), "-t", "1", "-n", "8", "--temp", "0.8"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, rows: Path, options: list[str]) -> bytes:
    """What one process writes."""
    output = tmp_path_factory.mktemp("here") / "out.jsonl"
    ended(begin(rows, output, *options))
    return output.read_bytes()


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it said on stderr, once it has ended with that code."""
    try:
        _, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code, stderr
    return stderr


def begin(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "atv_cli", "batch", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
    )


def option(name: str, value: str) -> tuple[str, str]:
    """An option of the executor, on the command line."""
    return "--executor-option", f"{name}={value}"


def workers() -> list[psutil.Process]:
    """The processes that hold a model, of this test's cluster only."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[0].startswith("ray::_Worker"):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def n_lines(partial: Path) -> int:
    return partial.read_bytes().count(b"\n") if partial.exists() else 0


def test_two_workers_write_what_one_process_writes(
    cluster: str, rows: Path, options: list[str], whole: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    process = begin(rows, output, *options, "--executor", "ray", *option("address", cluster))
    stderr = ended(process)
    assert output.read_bytes() == whole
    assert len(whole.splitlines()) == N_ROWS - 2
    assert f"{rows}:8: not JSON" in stderr
    assert f"{rows}:201: the prompt has" in stderr
    assert not workers()


def test_a_worker_that_dies_costs_no_row(
    cluster: str, rows: Path, options: list[str], whole: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    process = begin(rows, output, *options, "--executor", "ray", *option("address", cluster), *option("workers", "2"))
    partial, killed = output.with_name("out.jsonl.partial"), 0
    while process.poll() is None and not killed:
        if n_lines(partial) and (found := workers()):
            found[0].kill()
            killed += 1
        time.sleep(0.05)
    stderr = ended(process)
    assert killed
    assert "a worker of the Ray cluster died" in stderr
    assert output.read_bytes() == whole


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_stopped_is_resumed_here(
    cluster: str, rows: Path, options: list[str], whole: bytes, tmp_path: Path, how: signal.Signals
) -> None:
    output = tmp_path / "out.jsonl"
    process = begin(rows, output, *options, "--executor", "ray", *option("address", cluster))
    while not n_lines(output.with_name("out.jsonl.partial")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    said = ended(process, 130 if how == signal.SIGINT else -how)
    assert ("the same command to resume" in said) == (how == signal.SIGINT)
    assert "Traceback" not in said
    stderr = ended(begin(rows, output, *options))
    assert "resuming after" in stderr
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        (["--layers", "1-9"], 1, "--layers 1-9"),
        (["-t", "64"], 2, "no node of the Ray cluster has 64 CPUs; the largest has 2"),
        ([*option("workers", "0")], 2, "option workers: "),
        ([*option("cpus", "2")], 2, "it has address, workers"),
        ([*option("address", "127.0.0.1:1")], 2, "there is no Ray cluster at 127.0.0.1:1 ("),
    ],
)
def test_mistakes_are_one_sentence(
    cluster: str, rows: Path, options: list[str], tmp_path: Path, extra: list[str], code: int, words: str
) -> None:
    process = begin(rows, tmp_path / "out.jsonl", *options, "--executor", "ray", *option("address", cluster), *extra)
    stderr = ended(process, code)
    assert words in stderr
    assert len(stderr.strip().splitlines()) == 1, stderr
    assert not list(tmp_path.iterdir())
