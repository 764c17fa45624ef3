"""Documents name every position, and no text has an archaic or clever phrase."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atv_local import Positions
from tests import PACKAGES, ROOT

PAGE = PACKAGES["atv_serve"] / "page"
WRITTEN = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(
        path for package in PACKAGES.values() for kind in ("py", "js", "html") for path in package.rglob(f"*.{kind}")
    ),
]
UNUSUAL = {
    "knows? nothing (of|about)": "say what the module does",
    "cannot be meant": "invalid",
    "mend(s|ed|ing)?": "fix",
    "for ever": "forever",
    "learnt": "learned",
    "told again": "again",
    "(becomes?|became) of": "say what happens to it",
    "nobody's business": "say who must not see it, and why",
    "one a line": "one per line",
    "go(es)? before the": "overrides",
    "taken in turn": "alternate",
    r"(?<!there )is no (?!longer\b)[a-z{][a-z]*": "is not a",
    "nats a token": "nats per token",
    "(un|de)?quantized": "quantised, as everywhere else",
}
"""Archaic and clever phrases, and what to write instead."""


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


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_is_archaic_or_clever(path: Path) -> None:
    text = " ".join(re.sub(r"`[^`\n]*`", "``", path.read_text(encoding="utf-8")).split())
    assert {
        phrase: plain for phrase, plain in UNUSUAL.items() if re.search(rf"\b({phrase})\b", text, re.IGNORECASE)
    } == {}
