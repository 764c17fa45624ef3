"""The server's description in OpenAPI 3.1, made of its routes and of the models of their requests and responses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from atv_local import __version__
from atv_serve.openai.responses import ErrorResponse

JSON, TEXT, EVENTS = "application/json", "text/plain", "text/event-stream"
_PREFIX = "#/components/schemas/"
_ERRORS = {
    400: "Invalid request.",
    401: "The API key is missing or wrong.",
    403: "`Host` names another server, or `Origin` another site.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "The queue is full; Retry-After says when to try again.",
    500: "A defect; the server's log has the details.",
    503: "The server is stopping.",
    504: "The request took longer than the server allows.",
}
_ERRORS_WITHOUT_BODY = (401, 403, 404, 503)


HttpMethod = Literal["GET", "POST"]


@dataclass(frozen=True)
class Operation:
    """A route of the API.

    Args:
        path: parameters in braces.
        endpoint: the function that answers; its docstring is the summary.
        request: model of its body, None if it takes none.
        response: model of its JSON answer; None if that is a document of another standard.
        event: model of each event of a stream, if it can stream.
        media: media type of its answer.
        also: statuses besides 200 with the same answer.
    """

    method: HttpMethod
    path: str
    endpoint: Callable[..., Any]
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    event: type[BaseModel] | None = None
    media: str = JSON
    also: tuple[int, ...] = ()


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ErrorResponse, "serialization")]
    for operation in operations:
        models += [(operation.request, "validation")] if operation.request else []
        models += [(model, "serialization") for model in (operation.response, operation.event) if model]
    _, schemas = models_json_schema(list(dict.fromkeys(models)), ref_template=_PREFIX + "{model}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "atv-local", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    answer = {"description": "Success.", "content": _content(operation)}
    statuses = _ERRORS if operation.request else _ERRORS_WITHOUT_BODY
    error = {"content": {JSON: {"schema": _reference(ErrorResponse)}}}
    responses = {str(status): {"description": _ERRORS[status], **error} for status in statuses}
    responses |= {str(status): answer | {"description": HTTPStatus(status).phrase} for status in operation.also}
    words = re.findall(r"\w+", operation.path)
    described: dict[str, Any] = {
        "summary": operation.endpoint.__doc__,
        "operationId": "_".join([operation.method.lower(), *words]),
        "responses": {"200": answer, **responses},
    }
    if operation.request:
        content = {JSON: {"schema": _reference(operation.request)}}
        described["requestBody"] = {"required": True, "content": content}
    if names := re.findall(r"{(\w+)}", operation.path):
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    return described


def _content(operation: Operation) -> dict[str, Any]:
    schema = {"type": "object"} if operation.media == JSON else {"type": "string"}
    content: dict[str, Any] = {
        operation.media: {"schema": _reference(operation.response) if operation.response else schema}
    }
    if operation.event:
        event = {"type": "string", "contentMediaType": JSON, "contentSchema": _reference(operation.event)}
        error = {"type": "string", "contentMediaType": JSON, "contentSchema": _reference(ErrorResponse)}
        data = {"anyOf": [event, error, {"const": "[DONE]"}]}
        content[EVENTS] = {"schema": {"type": "object", "required": ["data"], "properties": {"data": data}}}
    return content


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _PREFIX + model.__name__}
