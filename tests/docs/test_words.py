"""Every place that lists the positions lists all of them."""

from __future__ import annotations

import re

import pytest

from atv_local import Positions
from tests import ROOT

PAGE = ROOT / "serve" / "atv_serve" / "page"


@pytest.mark.parametrize(
    "document",
    [
        "docs/glossary.md",
        "docs/explanation/how-it-works.md",
        "docs/reference/http-api.md",
        "docs/reference/bundle-format.md",
    ],
)
def test_documents_have_every_position(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [word for word in Positions if f"`{word}`" not in text] == []


def test_the_page_offers_and_explains_every_position() -> None:
    html, script = ((PAGE / name).read_text(encoding="utf-8") for name in ("index.html", "controls.js"))
    notes = re.search(r"const POSITIONS = \{(.*?)\};", script, re.DOTALL)
    assert notes is not None
    assert set(re.findall(r'name="positions" value="(\w+)"', html)) == set(Positions)
    assert set(re.findall(r"^\s*(\w+):", notes[1], re.MULTILINE)) == set(Positions)
