"""The server against its own OpenAPI description: whatever is sent, the answer is one that the description knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from atv_serve.http.app import OPERATIONS
from atv_serve.http.guard import Limits
from atv_serve.openai.openapi import describe
from atv_serve.server import Server, ServerOptions
from tests.serve.clients import HTTP
from tests.serve.listening import listening

CASES = [  # without a body there is nothing to be wrong
    pytest.param(operation.path, operation.method, mode, id=f"{operation.method} {operation.path} {mode}")
    for operation in OPERATIONS
    for mode in ("positive", "negative")
    if mode == "positive" or operation.request
]


@pytest.fixture(scope="module")
def schema() -> Any:
    import schemathesis

    return schemathesis.openapi.from_dict(describe(OPERATIONS))


@pytest.fixture(scope="module")
def url(tiny_gguf: Path, tiny_bundle: Path) -> Iterator[str]:
    options = ServerOptions(parallel=2, timeout=60, max_tokens=4, limits=Limits(seconds=2))
    with listening(Server(tiny_gguf, {"kinds": tiny_bundle}, options, n_threads=1)) as url:
        yield url
        assert HTTP.get(f"{url}/health").json() == {"status": "ok", "running": 0, "waiting": 0}


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_whatever_is_sent(url: str, schema: Any, path: str, method: str, mode: str) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks

    wanted = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.negative_data_rejection,
        checks.unsupported_method,
    ]

    @given(case=schema[path][method].as_strategy(generation_mode=GenerationMode(mode)))
    @settings(
        max_examples=settings.default.max_examples * 3 // 5,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    def send(case: Any) -> None:
        response = case.call(base_url=url)
        case.validate_response(response, checks=wanted)
        assert "Traceback" not in response.text
        assert "site-packages" not in response.text

    send()
