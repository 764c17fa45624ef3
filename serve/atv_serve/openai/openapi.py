"""The server's own description in OpenAPI, made of the models that requests are checked by."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from atv_serve.openai import requests

_BODIES: dict[str, tuple[str, type[BaseModel]]] = {
    "/v1/chat/completions": ("Answer the last message of a conversation.", requests.ChatRequest),
    "/v1/completions": ("Continue texts, or score them.", requests.CompletionRequest),
    "/v1/embeddings": ("Task vectors of queries, row after row.", requests.EmbeddingRequest),
    "/v1/steering": ("What would steer a query: the norm of each layer's row.", requests.VectorRequest),
    "/tokenize": ("Tokens of a text.", requests.TokenizeRequest),
    "/detokenize": ("Text of tokens.", requests.DetokenizeRequest),
}
_GETS = {
    "/v1/models": "The generators, each a model, and the target without steering.",
    "/v1/models/{name}": "One of them.",
    "/tokenizer_info": "Special tokens and chat template of the target.",
    "/health": "Whether it takes requests.",
    "/metrics": "Counts for Prometheus.",
}
_STREAMS = ("/v1/chat/completions", "/v1/completions")
_REFUSALS = {
    "400": "The request cannot be meant.",
    "401": "The API key is missing.",
    "403": "Another host is named, or another site's page asks.",
    "404": "There is no such model.",
    "408": "The request came too slowly.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "429": "Too many wait; Retry-After says when to come again.",
    "500": "A defect.",
    "503": "The server is being stopped.",
    "504": "It took longer than a request may.",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


@lru_cache(maxsize=1)
def description() -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    kinds = [kind for _, kind in _BODIES.values()]
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    refusals = {status: {"description": said, "content": refused} for status, said in _REFUSALS.items()}
    paths: dict[str, Any] = {}
    for path, (said, kind) in _BODIES.items():
        schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
        paths[path] = {
            "post": {
                "summary": said,
                "operationId": path.strip("/").replace("/", "_"),
                "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
                "responses": {"200": _answer(path), **refusals},
            }
        }
    for path, said in _GETS.items():
        some = {status: refusals[status] for status in ("401", "403", "404", "503")}
        get: dict[str, Any] = {"summary": said, "responses": {"200": _answer(path), **some}}
        if "{name}" in path:
            get["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
        paths[path] = {"get": get}
    return {
        "openapi": "3.1.0",
        "info": {"title": "atv-local", "version": _version()},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"] | {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _answer(path: str) -> dict[str, Any]:
    media: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if path in _STREAMS:
        media["text/event-stream"] = {"schema": {"type": "object", "properties": {"data": {"type": "string"}}}}
    if path == "/metrics":
        media = {"text/plain": {"schema": {"type": "string"}}}
    return {"description": "The answer.", "content": media}


def _version() -> str:
    try:
        return version("atv-local")
    except PackageNotFoundError:
        return "0"
