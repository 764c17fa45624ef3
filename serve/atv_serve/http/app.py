"""The routes: what each accepts and returns.

`OPERATIONS` is the only list of them; both the application and the OpenAPI description are made from it.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Generator
from difflib import get_close_matches
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import atv_serve.openai as api
from atv_local.answer import GatedVector, check_query
from atv_local.errors import AtvError, UsageError
from atv_local.text import one_line
from atv_serve.http.guard import LOOPBACK, Guard, Limits, read_body
from atv_serve.http.http_errors import Problem, of_error, of_validation, problem_response, release
from atv_serve.http.metrics import CONTENT_TYPE, Metrics
from atv_serve.http.model_response import model_response
from atv_serve.http.page import page, page_files
from atv_serve.http.paths import PlainPaths
from atv_serve.http.reply import Replies
from atv_serve.work import AppliedSteering, Context, ServedModels, gate_field, prepare_chat, prepare_completion

_PREFIX = "/v1"
_CLOSE = 0.85
"""Similarity of a path to the one that is meant."""
_SMALL = 1 << 16
"""Bytes of a body that is checked sooner than a thread would begin to."""
_MAX_COUNTED = 1 << 15
"""Tokens of a long text that are counted even where the context has less room. llama.cpp takes below a second."""
_log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
OPERATIONS: list[api.Operation] = []


def _operation(method: api.HttpMethod, path: str, **about: Any) -> Callable[[F], F]:
    """Add the method of `Application` below to `OPERATIONS`; see there."""

    def add(endpoint: F) -> F:
        OPERATIONS.append(api.Operation(method, path, endpoint, **about))
        return endpoint

    return add


class Application:
    """The routes over the models that are served; chats and completions are answered by `replies`."""

    def __init__(self, models: ServedModels, replies: Replies, metrics: Metrics, limits: Limits) -> None:
        self._models, self._replies, self._metrics, self._limits = models, replies, metrics, limits
        self._started = int(time.time())

    def asgi(self, hosts: Collection[str] = LOOPBACK, key: str | None = None) -> Starlette:
        """The application; see `Guard` for its arguments."""
        application = Starlette(
            routes=[*chain(*map(self._routes, OPERATIONS)), Route("/", self._counted("/", page)), page_files()],
            middleware=[Middleware(PlainPaths), Middleware(Guard, hosts=hosts, key=key)],
            exception_handlers={HTTPException: _refused, Exception: _failed},
        )
        application.router.redirect_slashes = False  # a POST would be answered without a word on what is wrong
        return application

    def _routes(self, operation: api.Operation) -> list[Route]:
        """The route, and for clients whose base URL lacks it another one without `/v1`."""
        endpoint = self._counted(operation.path, partial(self._respond, operation))
        path = operation.path.replace("}", ":path}")
        return [
            Route(each, endpoint, methods=[operation.method], include_in_schema=each == path)
            for each in dict.fromkeys((path, path.removeprefix(_PREFIX)))
        ]

    def _counted(self, path: str, respond: Endpoint) -> Endpoint:
        """With errors as answers, and every answer in the metrics."""

        async def endpoint(request: Request) -> Response:
            try:
                response = await respond(request)
            except Problem as problem:
                response = problem_response(problem)
                release(problem)
            except AtvError as error:
                response = problem_response(of_error(error, self._models.without_paths(str(error))))
                release(error)
            self._metrics.requests.labels(path, response.status_code).inc()
            return response

        return endpoint

    async def _respond(self, operation: api.Operation, request: Request) -> Response:
        body = [await self._body(request, operation.request)] if operation.request else []
        result = await operation.endpoint(self, request, *body)
        return result if isinstance(result, Response) else model_response(result)

    async def _body(self, request: Request, model: type[BaseModel]) -> BaseModel:
        raw = await read_body(request, self._limits)
        try:
            if len(raw) < _SMALL:
                return model.model_validate_json(raw)
            return await self._replies.aside(partial(model.model_validate_json, raw))
        except ValidationError as error:
            raise of_validation(error) from error

    # What answers.

    @_operation("POST", "/v1/chat/completions", request=api.ChatRequest, response=api.ChatResponse, event=api.ChatChunk)
    async def chat(self, request: Request, body: api.ChatRequest) -> Response:
        """Answer a conversation."""
        return await self._replies.reply(request, body, prepare_chat)

    @_operation(
        "POST",
        "/v1/completions",
        request=api.CompletionRequest,
        response=api.CompletionResponse,
        event=api.CompletionResponse,
    )
    async def complete(self, request: Request, body: api.CompletionRequest) -> Response:
        """Continue texts, or score them."""
        return await self._replies.reply(request, body, prepare_completion)

    @_operation("POST", "/v1/embeddings", request=api.EmbeddingRequest, response=api.EmbeddingResponse)
    async def embed(self, request: Request, body: api.EmbeddingRequest) -> api.EmbeddingResponse:
        """Task vectors of queries, those of all layers concatenated; without prompt vectors."""
        whole = api.SteeringRequest(strength=1, layers=[1, self._models.n_rows])
        applied = self._models.steering(body.model, whole)
        texts = [body.input] if isinstance(body.input, str) else body.input
        made = [vector for _, vector in await self._vectors(request, applied, texts)]
        arrays = [applied.steering.apply(one.vector).array for one in made if one.vector is not None]
        reads = [one.generator.read for one in made if one.generator is not None]
        readings = await self._replies.aside(lambda: [read(text) for read, text in zip(reads, texts, strict=True)])
        n_tokens = sum(len(reading.ids) for reading in readings)
        return api.EmbeddingResponse(
            object="list",
            data=[
                api.Embedding(
                    object="embedding",
                    index=index,
                    embedding=_encode(array.ravel(), body.encoding_format),
                    **reading.as_field(),
                )
                for index, (array, reading) in enumerate(zip(arrays, readings, strict=True))
            ],
            model=applied.bundle or "",  # of the base model there are none, which `steering` has refused
            usage=api.EmbeddingUsage(prompt_tokens=n_tokens, total_tokens=n_tokens),
        )

    @_operation("POST", "/v1/steering", request=api.VectorRequest, response=api.VectorResponse)
    async def steer(self, request: Request, body: api.VectorRequest) -> api.VectorResponse:
        """The vector that would steer a query: the norm at each layer as it would be added."""
        applied = self._models.steering(body.model, body.steering)
        if applied.steering.off:
            return api.VectorResponse(steering=False, norms=[0.0] * self._models.n_rows)
        query = body.query if applied.query is None else applied.query
        ((applied, gated),) = await self._vectors(request, applied, [query])
        norms = [0.0] * self._models.n_rows if gated.rows is None else gated.rows.norms().tolist()
        if gated.generator is None:  # control vectors alone read nothing
            return api.VectorResponse(steering=applied.as_response(), norms=norms)
        reading = await self._replies.aside(partial(gated.generator.read, query))
        gate = gate_field(gated.gate, self._models.bundle_names)
        return api.VectorResponse(steering=applied.as_response(), norms=norms, read_length=reading.length, **gate)

    async def _vectors(
        self, request: Request, applied: AppliedSteering, texts: list[str]
    ) -> list[tuple[AppliedSteering, GatedVector]]:
        """The vector of each text, whether a gate lets it steer or not, and how it is applied."""
        for text in texts:
            check_query(text)

        def work(context: Context) -> Generator[tuple[AppliedSteering, GatedVector]]:
            for text in texts:
                gated = context.engine(applied).gated(self._models.asked(text, applied), forced=True)
                yield context.chosen(applied, gated.generator, gated.steering), gated

        return await self._replies.all(request, work)

    # What describes.

    @_operation("POST", "/tokenize", request=api.TokenizeRequest, response=api.TokenizeResponse)
    async def tokenize(self, _request: Request, body: api.TokenizeRequest) -> api.TokenizeResponse:
        """Tokens of a text."""
        bos = body.add_special_tokens is not False
        limit = max(self._models.n_ctx, _MAX_COUNTED)
        tokenize = partial(self._models.vocabulary.tokenize, body.prompt, special=True, bos=bos, limit=limit)
        tokens = await self._replies.aside(tokenize)
        return api.TokenizeResponse(tokens=tokens, count=len(tokens), max_model_len=self._models.n_ctx)

    @_operation("POST", "/detokenize", request=api.DetokenizeRequest, response=api.DetokenizeResponse)
    async def detokenize(self, _request: Request, body: api.DetokenizeRequest) -> api.DetokenizeResponse:
        """Text of tokens."""
        last = self._models.vocabulary.n_tokens - 1
        if any(token > last for token in body.tokens):
            raise UsageError(f"the target has tokens 0 to {last}, not {max(body.tokens)}")
        return api.DetokenizeResponse(
            prompt=await self._replies.aside(partial(self._models.vocabulary.text, body.tokens))
        )

    @_operation("GET", "/tokenizer_info", response=api.TokenizerInfoResponse)
    async def tokenizer_info(self, _request: Request) -> api.TokenizerInfoResponse:
        """Special tokens and chat template of the target."""
        vocabulary = self._models.vocabulary
        return api.TokenizerInfoResponse(
            tokenizer_class="llama.cpp",
            bos_token=vocabulary.bos_text or None,
            eos_token=vocabulary.eos_text or None,
            chat_template=vocabulary.chat_template or None,
            model_max_length=self._models.n_ctx,
        )

    @_operation("GET", "/v1/models", response=api.ModelListResponse)
    async def list_models(self, _request: Request) -> api.ModelListResponse:
        """The bundles, each as a model, and the target without steering."""
        return api.ModelListResponse(object="list", data=[self._model(name) for name in self._models.names])

    @_operation("GET", "/v1/models/{name}", response=api.ModelResponse)
    async def get_model(self, request: Request) -> api.ModelResponse:
        """One of these models."""
        name = request.path_params["name"]
        self._models.check(name)
        return self._model(name)

    def _model(self, name: str) -> api.ModelResponse:
        return api.ModelResponse(
            id=name,
            object="model",
            created=self._started,
            owned_by="atv-local",
            target=self._models.name,
            n_ctx=self._models.n_ctx,
            n_layer=self._models.n_layer,
            steerable_layers=(1, self._models.n_rows),
            max_tokens=self._replies.max_tokens,
            steering=self._models.steering(name).as_response(),
            control_vectors=[
                api.ControlVectorResponse(name=known, sha256=vector.sha256[:12])
                for known, vector in self._models.control_vectors.items()
            ],
            labels=list(self._models.labels(name)),
            instructions=self._models.instructions(name),
        )

    @_operation("GET", "/health", response=api.HealthResponse, also=(503,))
    async def health(self, _request: Request) -> Response:
        """Whether the server accepts requests; status 503 while it stops."""
        pool = self._replies.pool
        health = api.HealthResponse(
            status="closing" if pool.closed else "ok", running=pool.running, waiting=pool.waiting
        )
        return model_response(health, 503 if pool.closed else 200)

    @_operation("GET", "/metrics", media=api.TEXT)
    async def metrics(self, _request: Request) -> Response:
        """Counters for Prometheus."""
        self._metrics.running.set(self._replies.pool.running)
        self._metrics.waiting.set(self._replies.pool.waiting)
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    @_operation("GET", "/openapi.json")
    async def openapi(self, _request: Request) -> Response:
        """This description."""
        return JSONResponse(api.describe(OPERATIONS))


def _encode(values: NDArray[np.float32], encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
    numbers: list[float] = values.tolist()
    return numbers


async def _refused(request: Request, error: Exception) -> Response:
    """No such path, or not by that method."""
    assert isinstance(error, HTTPException)
    message = _about_path(request.scope["path"]) if error.status_code == 404 else error.detail.lower()
    response = problem_response(Problem(error.status_code, message))
    response.headers.update(error.headers or {})
    return response


def _about_path(path: str) -> str:
    """A sentence on a path that is not served."""
    known = {
        each: operation.path for operation in OPERATIONS for each in (operation.path, operation.path[len(_PREFIX) :])
    }
    meant = [each for each in known if path.endswith(each) and each.startswith(_PREFIX)]
    meant += get_close_matches(path, known, 1, _CLOSE)
    hint = f"it is {known[meant[0]]} here" if meant else f"here are {', '.join(dict.fromkeys(known.values()))}"
    return f"there is no {one_line(path)[:200]}; {hint}; clients need the base URL with {_PREFIX} at its end"


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, one_line(request.scope["path"]), exc_info=error)
    return problem_response(Problem(500, "the request failed; the server's log has the details", code="internal"))
