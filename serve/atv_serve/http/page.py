"""The page at `/`, on which one can try the server, and its files."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent.parent / "page"
_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # cached, but checked each time: its files change together
}
mimetypes.add_type("text/javascript", ".js")  # Windows may have it as text/plain, which no browser runs as a module


async def page(_request: Request) -> Response:
    """The page itself."""
    return FileResponse(_FOLDER / "index.html", headers=_HEADERS)


def page_files() -> Mount:
    """Its files, below `/page`."""
    return Mount("/page", _PageFiles(directory=_FOLDER))


class _PageFiles(StaticFiles):
    """Static files, sent with the headers of the page."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """One of the files, or that it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response
