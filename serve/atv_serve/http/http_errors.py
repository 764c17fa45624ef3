"""What goes wrong, as a status code and an error in the shape of OpenAI's API."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError
from starlette.responses import JSONResponse

from atv_local.errors import AtvError, ModelError, PromptError, UnstableError, UsageError, VectorError
from atv_local.text import one_line
from atv_serve.work import BrokenError, BusyError, ClosedError, GoneError, TimeUpError, UnknownModelError

_GONE = 499
"""What proxies log for a client that went away; nobody receives it."""


_KINDS: dict[type[AtvError], tuple[int, str | None]] = {
    ClosedError: (503, "closing"),
    TimeUpError: (504, "timeout"),
    GoneError: (_GONE, "gone"),
    BrokenError: (500, "internal"),
    UnknownModelError: (404, "model_not_found"),
    PromptError: (400, "context_length_exceeded"),
    UsageError: (400, None),
    VectorError: (400, None),
    UnstableError: (400, None),
}


class Problem(Exception):  # noqa: N818  # an answer, not a defect
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        param: the field that it is about.
        code: for programs.
        retry_after: seconds.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def as_json(self) -> dict[str, object]:
        """As OpenAI's clients read it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def problem_response(problem: Problem) -> JSONResponse:
    """The answer that says so. The body may not be read to its end, so the connection is not used again."""
    headers = {} if problem.retry_after is None else {"retry-after": str(problem.retry_after)}
    if problem.status in (400, 401, 403, 404, 405, 408, 413, 415):
        headers["connection"] = "close"
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(problem.as_json(), problem.status, headers)


def of_validation(error: ValidationError, known: Collection[str]) -> Problem:
    """What is wrong with a request: of what may be several things, that in the field that lies deepest.

    Args:
        known: names of fields; between them pydantic puts those of the alternatives that it tried.
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    deepest = max(errors, key=lambda found: len(found["loc"]))
    unknown = deepest["type"] == "extra_forbidden"
    *place, last = deepest["loc"] or ("",)
    parts = [part for part in (*place, last) if isinstance(part, int) or part in known or (unknown and part is last)]
    field = one_line(".".join(map(str, parts)))[:200]
    said = "this is not known here" if unknown else deepest["msg"].removeprefix("Value error, ")
    return Problem(400, f"{field}: {one_line(said)[:300]}" if field else one_line(said)[:300], param=field or None)


def of_error(error: AtvError, message: str, *, preparing: bool = False) -> Problem:
    """One of our own errors; what was wrong before anything was evaluated is the request's fault."""
    if isinstance(error, BusyError):
        return Problem(429, message, code="busy", retry_after=error.retry_after)
    status, code = next((said for kind, said in _KINDS.items() if isinstance(error, kind)), (500, None))
    status = 400 if preparing and isinstance(error, ModelError) else status  # the chat template does not take it
    return Problem(
        status,
        message,
        code=code,
        param="model" if status == 404 else None,
        retry_after=5 if status == 503 else None,
    )
