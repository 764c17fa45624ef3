"""The server against its own OpenAPI description: whatever is sent, the answer is one that the description knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from atv_serve.http.app import OPERATIONS
from atv_serve.http.guard import Limits
from atv_serve.openai.openapi import describe
from atv_serve.server import Server, ServerOptions
from tests.serve.listening import listening

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
OPERATIONS = [found.ok() for found in schemathesis.openapi.from_dict(describe(OPERATIONS)).get_all_operations()]

CASES = [  # without a body there is nothing to be wrong
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode.is_positive or operation.method == "post"
]


@pytest.fixture(scope="module")
def url(tiny_gguf: Path, tiny_bundle: Path) -> Iterator[str]:
    options = ServerOptions(parallel=2, timeout=60, max_tokens=4, limits=Limits(seconds=2))
    with listening(Server(tiny_gguf, {"kinds": tiny_bundle}, options, n_threads=1)) as url:
        yield url
        assert httpx.get(f"{url}/health").json() == {"status": "ok", "running": 0, "waiting": 0}


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_whatever_is_sent(url: str, operation: Any, mode: GenerationMode) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    def send(case: Any) -> None:
        response = case.call(base_url=url)
        case.validate_response(response, checks=CHECKS)
        assert "Traceback" not in response.text
        assert "site-packages" not in response.text

    send()
