"""The pictures of the results: drawn from what was measured, and readable on any page."""

from __future__ import annotations

import re

import pytest

from benchmarks.pictures import FOLDER, GREY, PICTURES, digest


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_what_was_measured(name: str) -> None:
    title, read, _ = PICTURES[name]
    text = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert digest(read()) in text, f"{name}.svg shows other figures; run python -m benchmarks.pictures"
    assert title in text


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_can_be_read_on_light_and_dark_pages(name: str) -> None:
    text = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    words = re.findall(r"<text[^>]*>", text)
    assert words
    assert all(f"fill: {GREY}" in word for word in words), "text without a colour is black, also on a dark page"
    patch = re.search(r'<g id="patch_1">.*?</g>', text, re.DOTALL)
    assert patch is None or "opacity: 0" in patch[0] or "fill: none" in patch[0]


def test_no_picture_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(PICTURES)
