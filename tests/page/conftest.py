"""What all tests of the page share: one browser, and one server of the demo. It is read without playwright too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.page.browsing import Visit


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    from tests.page.browsing import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    from tests.page.browsing import visiting

    with visiting(browser) as opened:
        yield opened


@pytest.fixture(scope="package")
def demo() -> Iterator[str]:
    """The pair that ships."""
    from tests.page.browsing import serving

    with serving() as (url, _):
        yield url
