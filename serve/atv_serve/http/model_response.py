"""A response model as an HTTP response."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel
from starlette.responses import Response

from atv_serve.openai import JSON


def model_response(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """In JSON, without the fields that are not set."""
    return Response(model.model_dump_json(exclude_unset=True), status, headers, JSON)
