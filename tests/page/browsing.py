"""A server as a process, its page in Chromium, and what people do there; skips what needs them where there is none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("playwright", reason="the page is tested through playwright, which is not installed")
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect, sync_playwright

CASH = "I took money out of a cash machine and there was an extra charge. Why?"
CHARGE = "cash withdrawal charge"  # what the demo answers
SECONDS = 60  # that anything may take; nothing here is timed
Visit = Callable[..., Page]


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`atv-local serve` as a process, and its URL."""
    command = [sys.executable, "-m", "atv_cli", "serve", "--port", "0", "-t", "1", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        said = process.stderr.readline()
        assert said.startswith("http://127.0.0.1:"), said + process.stderr.read()
        yield said.split()[0], process
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of the system, without a window."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("the page is tested in chromium, which is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(browser: Browser) -> Iterator[Visit]:
    """Open pages. At the end nothing has left this machine, and nothing went wrong but what a test names."""
    said: list[str] = []
    expected: list[str] = []
    contexts: list[BrowserContext] = []

    def visit(url: str, *errors: str, **options: Any) -> Page:
        expected.extend(errors)
        context = browser.new_context(**options)
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda sent: None if sent.url.startswith(f"{url}/") else said.append(sent.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
        page.goto(url)
        expect(page.locator("#served, #problem").filter(has_text=re.compile("."))).not_to_have_count(0)
        return page

    expect.set_options(timeout=SECONDS * 1000)
    try:
        yield visit
    finally:
        for context in contexts:
            context.close()
    assert [line for line in said if not any(error in line for error in expected)] == []


def ask(page: Page, query: str) -> list[dict[str, Any]]:
    """Press Enter, wait for the end, and return what was asked: without steering, then with it."""
    sent: list[dict[str, Any]] = []
    page.on("request", lambda it: sent.append(it.post_data_json) if it.url.endswith("/completions") else None)
    page.get_by_label("Your query").fill(query)
    page.get_by_label("Your query").press("Enter")
    expect(page.locator("#status")).to_have_text("Done.")
    return sent[::-1]


def answering(page: Page, said: str, **more: Any) -> None:
    """Let every answer be this text."""

    def fulfil(route: Route) -> None:
        chunk = {"choices": [{"delta": {"content": said}, "finish_reason": "stop", **more}], "steering": False}
        usage = {"choices": [], "steering": False, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        events = "".join(f"data: {json.dumps(each)}\n\n" for each in (chunk, usage))
        route.fulfill(content_type="text/event-stream", body=f"{events}data: [DONE]\n\n")

    page.route("**/completions", fulfil)


def text(page: Page, column: str) -> str:
    """The answer in a column."""
    return page.get_by_role("region", name=column).locator(".text").inner_text()


def facts(page: Page, column: str) -> dict[str, str]:
    """What stands below it."""
    names, values = (page.get_by_role("region", name=column).locator(kind).all_inner_texts() for kind in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def bars(page: Page) -> Locator:
    """Of what is added to each layer."""
    return page.locator("#norms rect.added")


def heights(page: Page) -> list[float]:
    """Of the bars."""
    return [float(bar.get_attribute("height") or "nan") for bar in bars(page).all()]


def norms(page: Page) -> list[float]:
    """That the bars are of."""
    return [float(bar.get_attribute("data-norm") or "nan") for bar in bars(page).all()]


def until(met: Callable[[], bool]) -> None:
    """Wait."""
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def of_server(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the server says without the page."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        raw = response.read()
    return json.loads(raw) if raw[:1] == b"{" else raw.decode()
