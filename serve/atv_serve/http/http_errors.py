"""Errors as a status code and a response in the shape of OpenAI's API."""

from __future__ import annotations

import traceback
from typing import Literal

from pydantic import ValidationError
from starlette.responses import Response

from atv_local.errors import AtvError, GrammarError, ModelError, PromptError, UnstableError, UsageError, VectorError
from atv_local.text import one_line
from atv_serve.http.model_response import model_response
from atv_serve.openai import REQUEST_FIELDS, ErrorDetails, ErrorResponse, about_unknown
from atv_serve.work import BrokenError, BusyError, ClosedError, FieldError, GoneError, TimeUpError, UnknownModelError

_GONE = 499
"""What proxies log for a client that went away; it is never sent."""
_STATUS: dict[type[AtvError], tuple[int, str | None]] = {
    ClosedError: (503, "closing"),
    TimeUpError: (504, "timeout"),
    GoneError: (_GONE, "gone"),
    BrokenError: (500, "internal"),
    UnknownModelError: (404, "model_not_found"),
    PromptError: (400, "context_length_exceeded"),
    UsageError: (400, None),
    VectorError: (400, None),
    UnstableError: (400, None),
    GrammarError: (400, None),
}


class Problem(Exception):  # noqa: N818  # an answer, not a defect
    """A request that is answered with an error.

    Args:
        status: HTTP status code.
        param: the field that it is about.
        code: the error's name, for programs.
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

    def as_response(self) -> ErrorResponse:
        """The error in the form that OpenAI's clients read."""
        kind: Literal["rate_limit_error", "server_error", "invalid_request_error"] = "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        elif self.status >= 500:
            kind = "server_error"
        return ErrorResponse(error=ErrorDetails(message=str(self), type=kind, param=self.param, code=self.code))


def problem_response(problem: Problem) -> Response:
    """The response. The body may not have been read to its end, so the connection is then not used again."""
    headers = {} if problem.retry_after is None else {"retry-after": str(problem.retry_after)}
    if problem.status in (400, 401, 403, 404, 405, 408, 413, 415):
        headers["connection"] = "close"
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return model_response(problem.as_response(), problem.status, headers)


def release(error: BaseException) -> None:
    """Free what the frames of an error hold: they refer to the error, so a large request would stay until the garbage
    collector runs."""
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain.__traceback__ = None
        following = chain.__cause__ or chain.__context__
        chain.__cause__ = chain.__context__ = None
        chain = following


def of_validation(error: ValidationError) -> Problem:
    """An invalid request. Of several errors it names the one that lies deepest."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    deepest = max(errors, key=lambda each: len(each["loc"]))
    unknown = deepest["type"] == "extra_forbidden"
    *place, last = deepest["loc"] or ("",)
    # Between the names of fields pydantic puts those of the alternatives that it tried.
    parts = [part for part in place if isinstance(part, int) or part in REQUEST_FIELDS]
    parts += [last] if unknown or isinstance(last, int) or last in REQUEST_FIELDS else []
    field = one_line(".".join(map(str, parts)))[:200]
    message = one_line(deepest["msg"].removeprefix("Value error, "))[:300]
    if unknown:
        message = about_unknown(str(last), REQUEST_FIELDS)
    return Problem(400, f"{field}: {message}" if field else message, param=field or None)


def of_error(error: AtvError, message: str, *, preparing: bool = False) -> Problem:
    """One of our own errors; while a request is prepared, errors of the chat template are the request's fault too."""
    if isinstance(error, BusyError):
        return Problem(429, message, code="busy", retry_after=error.retry_after)
    status, code = next((entry for kind, entry in _STATUS.items() if isinstance(error, kind)), (500, None))
    status = 400 if preparing and isinstance(error, ModelError) else status
    return Problem(
        status,
        message,
        code=code,
        param=error.field if isinstance(error, FieldError) else "model" if status == 404 else None,
        retry_after=5 if status == 503 else None,
    )
