"""A server for tests, at a free port of this machine, in threads of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from atv_serve.server import Server


@contextmanager
def listening(server: Server, *, send_buffer: int | None = None) -> Iterator[str]:
    """Yield the URL of a server, and close it. `send_buffer` bounds what waits for a client that does not read."""
    http = server.uvicorn()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        thread = threading.Thread(target=lambda: asyncio.run(http.serve(sockets=[listener])))
        thread.start()
        try:
            while not http.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            http.should_exit = True
            thread.join()
            server.close()
