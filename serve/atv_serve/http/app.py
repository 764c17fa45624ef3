"""Routes: what each takes, and what it answers with. Knows nothing of sockets, nor of how answers are made."""

from __future__ import annotations

import base64
import logging
import mimetypes
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from anyio import to_thread
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from atv_local.answer import check_query
from atv_local.errors import AtvError, UsageError
from atv_local.text import one_line
from atv_serve.http.guard import LOOPBACK, Guard, Limits, read_body
from atv_serve.http.http_errors import Problem, of_error, of_validation, problem_response
from atv_serve.http.metrics import CONTENT_TYPE, Metrics
from atv_serve.http.reply import Replies
from atv_serve.openai import description, requests
from atv_serve.work import (
    AppliedSteering,
    Context,
    ServedModels,
    UnknownModelError,
    applied_by,
    ready_chat,
    ready_completion,
)

_PAGE = Path(__file__).parent.parent / "page"
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # kept, but asked for again: its files change together
}
mimetypes.add_type("text/javascript", ".js")  # Windows may have it as text/plain, which no browser runs as a module
_SMALL = 1 << 16
"""Bytes that are read faster than a thread is asked."""
_log = logging.getLogger(__name__)

R = TypeVar("R", bound=BaseModel)
Endpoint = Callable[[Request], Awaitable[Response]]


class Application:
    """The routes over what is served; answers are `replying`'s."""

    def __init__(self, served: ServedModels, replying: Replies, metrics: Metrics, limits: Limits) -> None:
        self._served, self._replying, self._metrics, self._limits = served, replying, metrics, limits
        self._started = int(time.time())

    def asgi(self, hosts: Collection[str] = LOOPBACK, key: str | None = None) -> Starlette:
        """The application; see `Guard` for its arguments."""
        posts: dict[str, Endpoint] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._complete,
            "/v1/embeddings": self._embed,
            "/v1/steering": self._steer,
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
        }
        gets: dict[str, Endpoint] = {
            "/v1/models": self._models,
            "/v1/models/{name:path}": self._model,
            "/tokenizer_info": self._tokenizer_info,
            "/health": self._health,
            "/metrics": self._measured,
            "/openapi.json": self._described,
            "/": self._page,
        }
        routes: list[BaseRoute] = [
            Route(path, self._counted(path, made), methods=[method])
            for method, table in (("POST", posts), ("GET", gets))
            for path, made in table.items()
        ]
        routes.append(Mount("/page", _PageFiles(directory=_PAGE)))
        return Starlette(
            routes=routes,
            middleware=[Middleware(Guard, hosts=hosts, key=key)],
            exception_handlers={HTTPException: _refused, Exception: _failed},
        )

    def _counted(self, path: str, endpoint: Endpoint) -> Endpoint:
        """With problems as answers, and every answer in the metrics."""

        async def answered(request: Request) -> Response:
            try:
                response = await endpoint(request)
            except Problem as problem:
                response = problem_response(problem)
            except AtvError as error:
                response = problem_response(of_error(error, self._served.without_paths(str(error))))
            self._metrics.requests.labels(path, response.status_code).inc()
            return response

        return answered

    async def _body(self, request: Request, kind: type[R]) -> R:
        raw = await read_body(request, self._limits)
        try:
            if len(raw) < _SMALL:
                return kind.model_validate_json(raw)
            return await to_thread.run_sync(kind.model_validate_json, raw)
        except ValidationError as error:
            raise of_validation(error, requests.FIELDS) from error

    # What answers.

    async def _chat(self, request: Request) -> Response:
        asked = await self._body(request, requests.ChatRequest)
        return await self._replying.reply(request, asked, ready_chat)

    async def _complete(self, request: Request) -> Response:
        asked = await self._body(request, requests.CompletionRequest)
        return await self._replying.reply(request, asked, ready_completion)

    async def _embed(self, request: Request) -> Response:
        asked = await self._body(request, requests.EmbeddingRequest)
        applied = self._served.applied(asked.model, strength=1, layers=(1, self._served.n_rows))
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        arrays = await self._vectors(request, applied, texts)
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(array.ravel(), asked.encoding_format)}
            for index, array in enumerate(arrays)
        ]
        count = self._served.generators[applied.generator or ""].count
        n_tokens = await to_thread.run_sync(lambda: sum(map(count, texts)))
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        return JSONResponse({"object": "list", "data": data, "model": applied.generator, "usage": usage})

    async def _steer(self, request: Request) -> Response:
        asked = await self._body(request, requests.VectorRequest)
        applied = applied_by(self._served, asked.model, asked.steering)
        if applied.generator is None:
            return JSONResponse({"steering": False, "norms": [0.0] * self._served.n_rows})
        (array,) = await self._vectors(request, applied, [applied.query or asked.query])
        norms = np.sqrt(np.square(array, dtype=np.float64).sum(axis=1))
        return JSONResponse({"steering": applied.as_json(), "norms": norms.tolist()})

    async def _vectors(self, request: Request, applied: AppliedSteering, texts: list[str]) -> list[Any]:
        """Rows float32 [n_layer-1, n_embd] for each text, as they would be added."""
        for text in texts:
            check_query(text)

        def work(context: Context) -> Iterator[Any]:
            engine = context.engine(applied)
            return (applied.steering.apply(engine.vector(text)).array for text in texts)

        return await self._replying.all(request, work)

    # What describes.

    async def _tokenize(self, request: Request) -> Response:
        asked = await self._body(request, requests.TokenizeRequest)
        bos = asked.add_special_tokens is not False
        tokenize = partial(self._served.vocabulary.tokenize, asked.prompt, special=True, bos=bos)
        tokens = await to_thread.run_sync(tokenize)
        return JSONResponse({"tokens": tokens, "count": len(tokens), "max_model_len": self._served.n_ctx})

    async def _detokenize(self, request: Request) -> Response:
        asked = await self._body(request, requests.DetokenizeRequest)
        last = self._served.vocabulary.n_tokens - 1
        if any(token > last for token in asked.tokens):
            raise UsageError(f"the target has tokens 0 to {last}, not {max(asked.tokens)}")
        return JSONResponse({"prompt": await to_thread.run_sync(self._served.vocabulary.text, asked.tokens)})

    async def _tokenizer_info(self, _request: Request) -> Response:
        vocabulary = self._served.vocabulary
        said = {
            "tokenizer_class": "llama.cpp",
            "bos_token": vocabulary.bos_text or None,
            "eos_token": vocabulary.eos_text or None,
            "chat_template": vocabulary.chat_template or None,
            "model_max_length": self._served.n_ctx,
        }
        return JSONResponse(said)

    async def _models(self, _request: Request) -> Response:
        data = [self._described_model(name) for name in self._served.models]
        return JSONResponse({"object": "list", "data": data})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._served.models:
            raise UnknownModelError(f"there is no model {name!r}; here are {', '.join(self._served.models)}")
        return JSONResponse(self._described_model(name))

    def _described_model(self, name: str) -> dict[str, Any]:
        said = {"id": name, "object": "model", "created": self._started, "owned_by": "atv-local"}
        applied = self._served.applied(name).as_json()
        limits = {"n_ctx": self._served.n_ctx, "n_layers": self._served.n_rows, "max_tokens": self._replying.max_tokens}
        return said | {"target": self._served.name, **limits, "steering": applied}

    async def _health(self, _request: Request) -> Response:
        pool = self._replying.pool
        said = {"status": "closing" if pool.closed else "ok", "running": pool.running, "waiting": pool.waiting}
        return JSONResponse(said, 503 if pool.closed else 200)

    async def _measured(self, _request: Request) -> Response:
        self._metrics.running.set(self._replying.pool.running)
        self._metrics.waiting.set(self._replying.pool.waiting)
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _described(self, _request: Request) -> Response:
        return JSONResponse(description())

    async def _page(self, _request: Request) -> Response:
        return FileResponse(_PAGE / "index.html", headers=_PAGE_HEADERS)


class _PageFiles(StaticFiles):
    """What the page is made of."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """One of the files, or that it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response


def _encoded(values: Any, encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
    numbers: list[float] = values.tolist()
    return numbers


async def _refused(_request: Request, error: Exception) -> Response:
    """No such path, or not by that method."""
    assert isinstance(error, HTTPException)
    response = problem_response(Problem(error.status_code, error.detail.lower()))
    response.headers.update(error.headers or {})
    return response


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, one_line(request.scope["path"]), exc_info=error)
    return problem_response(Problem(500, "the request failed; the log of the server says how", code="internal"))
