"""What strangers, careless clients and other sites' pages may do to the server: get an error, and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.vectors import TaskVector
from atv_serve.http.guard import Guard, Limits
from atv_serve.server import Server, ServerOptions
from tests.serve.clients import HTTP
from tests.serve.listening import listening

LIMITS = Limits(body=20_000, seconds=0.5)
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def url(tiny_gguf: Path, tiny_bundle: Path) -> Iterator[str]:
    options = ServerOptions(parallel=1, queue=1, timeout=30, limits=LIMITS)
    with listening(Server(tiny_gguf, {"kinds": tiny_bundle}, options, n_threads=1)) as url:
        yield url


@pytest.fixture(autouse=True)
def goes_on(url: str) -> Iterator[None]:
    """After each of these tests the server answers, and nothing is stuck."""
    yield
    assert wait_for(lambda: HTTP.get(f"{url}/health").json() == {"status": "ok", "running": 0, "waiting": 0})
    answer = HTTP.post(f"{url}{CHAT}", json=body("apple 1"))
    assert answer.json()["choices"][0]["message"]["content"] == "a"


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> bool:
    until = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return met


def body(text: str = "go on", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]} | more


def endless(**more: Any) -> dict[str, Any]:
    """Some thousand tokens of answers, far more than anyone waits for here."""
    return body("go on", model="base", max_tokens=400, n=100, **more)


def connect(url: str) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((where.hostname, where.port), timeout=20)


def request(content: bytes, length: int | None = None, path: str = CHAT) -> bytes:
    length = len(content) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    return f"{head}\r\n".encode() + content


def everything(link: socket.socket) -> bytes:
    found = b""
    while piece := link.recv(65536):
        found += piece
    return found


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        (b'{"messages": [{"role": "user", "content": "a"}], "model": "\\udfff"}', 400),
        (b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}', 400),
        (b"[" * 10_000, 400),
        (b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (b'{"messages": 5, "messages": [{"role": "user", "content": 1}]}', 400),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", 400),
        (b" " * 20_001, 413),
    ],
)
def test_bodies_that_are_no_requests(url: str, content: bytes, status: int) -> None:
    for path in (CHAT, "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/v1/steering"):
        answer = HTTP.post(f"{url}{path}", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == status, (path, answer.text)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert "Traceback" not in answer.text


def test_a_body_too_large_is_refused_before_it_is_sent(url: str) -> None:
    with connect(url) as link:
        link.sendall(request(b"{", length=1 << 40))
        assert link.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_too_large_in_pieces_of_unknown_number(url: str) -> None:
    answer = HTTP.post(
        f"{url}{CHAT}",
        content=(b" " * 1000 for _ in range(1000)),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 413


def test_other_media_types(url: str) -> None:
    """A form on another site's page can send these without asking first."""
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = HTTP.post(f"{url}{CHAT}", content=json.dumps(body()), headers={"content-type": media})
        assert answer.status_code == 415


def test_a_body_that_does_not_come(url: str) -> None:
    with connect(url) as link:
        link.sendall(request(b"{", length=100))
        found = everything(link)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"within 0.5 s" in found


def test_half_a_body_and_no_more(url: str) -> None:
    for _ in range(5):
        with connect(url) as link:
            link.sendall(request(b"{", length=100))
            link.shutdown(socket.SHUT_WR)
            found = everything(link)
        assert not found or found.startswith(b"HTTP/1.1 4")


def test_what_is_not_http(url: str) -> None:
    for rubbish in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000 + b"\r\n\r\n"):
        with connect(url) as link:
            link.sendall(rubbish)
            link.shutdown(socket.SHUT_WR)
            found = everything(link)
        assert not found or found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 403 "))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"])
def test_other_hosts_names(url: str, host: str) -> None:
    """A name that an attacker lets point here: the browser would then hand over the answers."""
    answer = HTTP.get(f"{url}/v1/models", headers={"host": host})
    assert answer.status_code == 403


@pytest.mark.parametrize("host", [b"localhost/page/?", b"localhost#", b"a@localhost", b"localhost\\page", b"[::1"])
@pytest.mark.parametrize("key", [None, "k"])
def test_a_host_with_more_in_it_than_a_name(host: bytes, key: str | None) -> None:
    """Whatever the framework makes of it: the guard looks at the path that is routed."""
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        sent.append("let through")

    async def send(message: Any) -> None:
        sent.append(message.get("status"))

    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": [(b"host", host)], "query_string": b""}
    asyncio.run(Guard(app, key=key)(scope, None, send))  # type: ignore[arg-type]  # nothing is received
    assert sent[0] == 403
    sent.clear()
    if key:
        asyncio.run(Guard(app, hosts=(), key=key)(scope, None, send))  # type: ignore[arg-type]  # as above
        assert sent[0] == 401


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080"])
def test_our_own_names(url: str, host: str) -> None:
    assert HTTP.get(f"{url}/v1/models", headers={"host": host}).status_code == 200


def test_other_sites_pages(url: str) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://[", "", "ftp://127.0.0.1"):
        answer = HTTP.post(f"{url}{CHAT}", json=body(), headers={"origin": origin})
        assert answer.status_code == 403
        preflight = HTTP.options(f"{url}{CHAT}", headers={"origin": origin, "access-control-request-method": "POST"})
        assert preflight.status_code >= 400
        assert not [name for name in (*answer.headers, *preflight.headers) if name.startswith("access-control")]
    assert HTTP.post(f"{url}{CHAT}", json=body("apple 1"), headers={"origin": url}).status_code == 200


def test_paths_lead_nowhere_else(url: str) -> None:
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/v1/models/..%2f..", "/page/"):
        with connect(url) as link:  # clients would tidy the path up
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            found = everything(link)
        assert found.startswith(b"HTTP/1.1 404 "), path
        assert b"import" not in found


def test_methods(url: str) -> None:
    assert HTTP.get(f"{url}{CHAT}").status_code == 405
    assert HTTP.post(f"{url}/health").status_code == 405
    assert HTTP.request("TRACE", f"{url}/health").status_code == 405


def test_who_comes_to_a_full_queue_is_told_when_to_come_again(url: str) -> None:
    with httpx.Client(timeout=30) as client:
        with client.stream("POST", f"{url}{CHAT}", json=endless(stream=True)) as running:
            lines = running.iter_lines()  # let go, it would close the connection
            next(lines)
            with connect(url) as waiting:
                waiting.sendall(request(json.dumps(endless()).encode()))
                assert wait_for(lambda: HTTP.get(f"{url}/health").json()["waiting"] == 1)
                refused = client.post(f"{url}{CHAT}", json=body())
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60


@pytest.mark.parametrize("stream", [True, False])
def test_work_ends_when_its_client_leaves(url: str, stream: bool) -> None:
    for _ in range(5):
        with connect(url) as link:
            link.sendall(request(json.dumps(endless(stream=stream)).encode()))
            assert wait_for(lambda: HTTP.get(f"{url}/health").json()["running"] == 1)
        assert wait_for(lambda: HTTP.get(f"{url}/health").json()["running"] == 0)


def test_vectors_are_no_longer_made_when_their_client_leaves(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    vector = Generator.__call__

    def slow(generator: Generator, query: str) -> TaskVector:
        nonlocal made
        made += 1
        time.sleep(0.1)
        return vector(generator, query)

    monkeypatch.setattr(Generator, "__call__", slow)
    with connect(url) as link:
        link.sendall(request(json.dumps({"input": ["apple " * 20] * 128}).encode(), path="/v1/embeddings"))
        assert wait_for(lambda: HTTP.get(f"{url}/health").json()["running"] == 1)
    assert wait_for(lambda: HTTP.get(f"{url}/health").json()["running"] == 0)
    assert made < 128


def test_a_connection_that_says_nothing_or_half_a_head(url: str) -> None:
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for before in (b"", whole):
        for half in (b"", whole[:30]):
            with connect(url) as link:
                if before:
                    link.sendall(before)
                    found = b""
                    while not found.endswith(b"}"):
                        found += link.recv(4096)
                    if not half:
                        continue  # may stay for as long as connections are kept
                link.sendall(half)
                assert everything(link) == b""  # ends when the server hangs up


@pytest.mark.parametrize("stream", [True, False])
def test_one_that_never_reads_is_hung_up_on(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.setattr("atv_serve.http.connection.SEND_SECONDS", 0.5)
    server = Server(tiny_gguf, {}, ServerOptions(parallel=1), n_threads=1)
    with listening(server, send_buffer=4096) as url, socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        where = urlsplit(url)
        link.connect((where.hostname, where.port))
        asked = body(model="base", max_tokens=150, n=4, stream=stream, logprobs=True, top_logprobs=20)
        link.sendall(request(json.dumps(asked).encode()))
        lines = f"{url}/metrics"

        def connections() -> float:
            return HTTP.get(f"{url}/health").json()["running"]

        assert wait_for(lambda: connections() == 1)
        assert wait_for(lambda: connections() == 0, 60)
        answered = f'route="{CHAT}",status="200"'
        assert wait_for(lambda: answered in HTTP.get(lines).text, 60)
        link.settimeout(30)
        time.sleep(1)
        found = everything(link)  # what was on its way, and then the end
        head, _, rest = found.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert not rest.endswith(b"0\r\n\r\n")
        assert stream or len(rest) < int(length[1] if length else 0)
        assert HTTP.get(lines).status_code == 200


def test_one_that_reads_slowly_holds_no_context(url: str) -> None:
    with connect(url) as link:
        link.sendall(request(json.dumps(body(model="base", max_tokens=300, stream=True)).encode()))
        assert wait_for(lambda: HTTP.get(f"{url}/health").json()["running"] == 1)
        assert wait_for(lambda: HTTP.get(f"{url}/health").json()["running"] == 0)
        found = b""
        while b"[DONE]" not in found:
            found += link.recv(4096)


def test_a_request_that_takes_too_long(tiny_gguf: Path) -> None:
    with listening(Server(tiny_gguf, {}, ServerOptions(parallel=1, timeout=0.3), n_threads=1)) as url:
        late = HTTP.post(f"{url}{CHAT}", json=endless(), timeout=30)
        assert late.status_code == 504
        assert "0.3 s" in late.json()["error"]["message"]
        lines = HTTP.post(f"{url}{CHAT}", json=endless(stream=True), timeout=30).text.strip().splitlines()
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "timeout"
        assert wait_for(lambda: HTTP.get(f"{url}/health").json()["running"] == 0)


def test_a_key_is_asked_for_everywhere_but_at_the_page(tiny_gguf: Path) -> None:
    with listening(Server(tiny_gguf, {}, ServerOptions(parallel=1, api_key="open sesame"), n_threads=1)) as url:
        for path in ("/v1/models", "/metrics", "/openapi.json", "/tokenizer_info", "/nope"):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic open sesame"}):
                answer = HTTP.get(f"{url}{path}", headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert HTTP.get(f"{url}/v1/models", headers={"authorization": "Bearer open sesame"}).status_code == 200
        assert HTTP.get(f"{url}/health").status_code == HTTP.get(f"{url}/").status_code == 200


def test_only_this_machine_unless_there_is_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(UsageError, match="api_key"):
            ServerOptions(host=host)
        assert ServerOptions(host=host, api_key="k").hosts == ()
    assert all(ServerOptions(host=host).loopback for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
    with pytest.raises(UsageError, match="api_key"):
        ServerOptions(api_key="")


def test_no_path_of_a_file_in_what_describes(url: str, tiny_gguf: Path, tiny_bundle: Path) -> None:
    for path in ("/v1/models", "/metrics", "/tokenizer_info", "/openapi.json"):
        text = HTTP.get(f"{url}{path}").text
        assert str(tiny_gguf.parent) not in text
        assert str(tiny_bundle.parent) not in text
