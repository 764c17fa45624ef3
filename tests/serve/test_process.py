"""`atv-local serve` as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_serve.server import Server, ServerOptions
from tests.serve.clients import HTTP


@contextmanager
def process(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "atv_cli", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        assert line.startswith("http://127.0.0.1:"), line + running.stderr.read()
        try:
            yield running, line.split()[0]
        finally:
            running.kill()


def listens(url: str) -> bool:
    try:
        return HTTP.get(f"{url}/health").status_code > 0
    except (httpx.NetworkError, httpx.RemoteProtocolError):  # also of a connection that was about to be taken
        return False


def chat(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "go on"}], "model": "base"} | more


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_finishes_what_runs(tiny_gguf: Path, number: signal.Signals) -> None:
    options = ["-m", str(tiny_gguf), "--off", "--parallel", "1", "-t", "1"]
    with process(*options) as (running, url), httpx.Client(base_url=url, timeout=60) as client:
        whole = client.post("/v1/chat/completions", json=chat(max_tokens=200, n=2)).json()
        statuses: list[int] = []

        def wait() -> None:
            statuses.append(HTTP.post(f"{url}/v1/chat/completions", json=chat(), timeout=60).status_code)

        with client.stream("POST", "/v1/chat/completions", json=chat(max_tokens=200, n=2, stream=True)) as answer:
            lines = answer.iter_lines()
            found = [next(lines)]
            waiting = threading.Thread(target=wait)
            waiting.start()
            while HTTP.get(f"{url}/health").json()["waiting"] == 0:
                pass
            running.send_signal(number)
            found += [line for line in lines if line]
        waiting.join()
        chunks = [json.loads(line.removeprefix("data: ")) for line in found if line.startswith("data: {")]
        texts = {choice["index"]: "" for choice in whole["choices"]}
        for chunk in chunks:
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["delta"].get("content", "")
        assert found[-1] == "data: [DONE]"
        assert texts == {choice["index"]: choice["message"]["content"] for choice in whole["choices"]}
        assert statuses == [503]
        assert running.wait(30) == 0
        assert running.stdout is not None
        assert running.stderr is not None
        assert (running.stdout.read(), running.stderr.read()) == (
            "",
            "finishing running requests (1); press Ctrl-C again to stop now\n",
        )
        with pytest.raises(httpx.ConnectError):
            HTTP.get(f"{url}/health")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_twice_it_ends_at_once(tiny_gguf: Path, number: signal.Signals) -> None:
    with process("-m", str(tiny_gguf), "--off", "-t", "1") as (running, url):
        asked = chat(max_tokens=400, n=128, stream=True)
        with HTTP.stream("POST", f"{url}/v1/chat/completions", json=asked, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            running.send_signal(number)
            while listens(url):
                pass
            assert running.poll() is None
            running.send_signal(number)
            assert running.wait(20) == 1
        assert running.stderr is not None
        assert running.stderr.read().splitlines() == [
            "finishing running requests (1); press Ctrl-C again to stop now",
            "atv-local: answers that were cut off: 1",
        ]


def test_told_a_third_time_it_still_knows_what_it_cut_off(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tiny_gguf, {}, ServerOptions(parallel=1), n_threads=1)

    async def told(*running: int) -> int:
        http = server.uvicorn()
        for n in running:
            monkeypatch.setattr(type(server.pool), "running", n)
            http.handle_exit(signal.SIGINT, None)
        return http.n_cut

    try:
        assert asyncio.run(told(2)) == 0
        assert asyncio.run(told(2, 2, 0)) == 2
    finally:
        server.close()


def test_bundles_have_names(tiny_gguf: Path, tiny_bundle: Path) -> None:
    options = ["-m", str(tiny_gguf), "-g", f"fruit={tiny_bundle}", "-g", str(tiny_bundle), "-t", "1"]
    with process(*options) as (running, url):
        listed = HTTP.get(f"{url}/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["fruit", tiny_bundle.name, "base"]
        assert running.stderr is not None
        assert "without the model auto" in running.stderr.readline()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "--api-key"),
        (["--off", "-g", "x"], 1, "'x'"),
        (["-g", "a=b", "-g", "a=c"], 2, "-g"),
        (["-g", "base=x.zip"], 2, "cannot be named"),
        (["-g", "a=missing.zip"], 1, "missing.zip"),
        (["-m", "missing.gguf"], 1, "missing.gguf"),
        (["--host", "no-such-host.invalid", "--api-key", "k", "--off"], 2, "cannot listen"),
    ],
)
def test_mistakes_are_told_before_anything_listens(options: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(app, ["serve", *options])
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_taken(tiny_gguf: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", "-m", str(tiny_gguf), "--off", "--port", port])
    assert result.exit_code == 2
    assert f"127.0.0.1:{port}" in result.stderr
