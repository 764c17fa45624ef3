"""What the page looks and sounds like: contrast, names, narrow screens, little motion."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.browsing import CASH, Visit, answering, ask, bars

WIDGETS = (
    "button",
    "textbox",
    "slider",
    "spinbutton",
    "switch",
    "radio",
    "combobox",
    "img",
    "region",
    "figure",
)
COLOURS = """() => {
  const fields = "textarea, select, [type=number], [type=password]";
  const ground = (it) => {
    const colour = getComputedStyle(it).backgroundColor;
    return colour != "rgba(0, 0, 0, 0)" ? colour : ground(it.parentElement);
  };
  const said = (it) => [...it.childNodes].some((node) => node.nodeType == Node.TEXT_NODE && node.data.trim());
  const told = (it, colour, on) => [it.outerHTML.slice(0, 80), colour, ground(on)];
  const style = getComputedStyle;
  const shown = [...document.querySelectorAll("body *")].filter((it) => it.checkVisibility());
  const those = (names) => shown.filter((it) => it.matches(names));
  const query = document.querySelector("textarea");
  return {
    texts: [
      ...shown.filter((it) => said(it) || it.matches(fields)).map((it) => told(it, style(it).color, it)),
      told(query, style(query, "::placeholder").color, query),
    ],
    edges: [
      ...those(`${fields}, [role=switch], .choice, button:not([aria-disabled=true])`).map(
        (it) => told(it, style(it).borderTopColor, it.parentElement)),
      ...those(".probabilities dd").map((it) => told(it, style(it, "::after").backgroundColor, it)),
      ...those("rect.added").map((it) => told(it, style(it).fill, it)),
      ...those("h2").map((it) => told(it, style(it, "::before").backgroundColor, it)),
    ],
    ground: ground(document.body),
    scheme: style(document.documentElement).colorScheme,
  };
}"""


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it, 0 to 1, of an opaque `rgb(r, g, b)`."""
    found = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert found, colour
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (int(n) / 255 for n in found.groups())
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def full(page: Page) -> dict[str, Any]:
    """The page with an answer, a refusal and the table, and the field for a key, as colours."""
    ask(page, CASH)
    expect(bars(page)).to_have_count(29)
    page.get_by_text("The same as a table").click()
    page.get_by_label("Your query").fill("a " * 3000)
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.evaluate("document.getElementById('unlock').hidden = false")
    found: dict[str, Any] = page.evaluate(COLOURS)
    answering(page, '{"a": ["b", 1]}', probabilities={"spam": 0.75, "ham": 0.25}, finish_reason="length")
    page.get_by_role("radio", name="Chat").check()
    page.get_by_label("Your message").fill("hello")
    page.get_by_label("Your message").press("Enter")
    expect(page.locator(".theirs .json")).to_be_visible()
    page.get_by_text("Answer format:").click()
    page.get_by_role("radio", name="choices").check()
    page.get_by_label("Allowed answers").fill("only one")
    chat: dict[str, Any] = page.evaluate(COLOURS)
    return found | {kind: found[kind] + chat[kind] for kind in ("texts", "edges")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_that_of_wcag_aa(visit: Visit, demo: str, scheme: str) -> None:
    page = visit(demo, "status of 400", color_scheme=scheme, reduced_motion="reduce")
    found = full(page)
    assert found["scheme"] == "light dark"
    assert (luminance(found["ground"]) > 0.5) == (scheme == "light")
    assert len(found["texts"]) > 140
    assert len(found["edges"]) > 80
    for what, colour, ground in found["texts"]:
        assert contrast(colour, ground) >= 4.5, (what, colour, ground)
    for what, colour, ground in found["edges"]:
        assert contrast(colour, ground) >= 3, (what, colour, ground)


def test_every_control_and_picture_has_a_name(visit: Visit, demo: str) -> None:
    page = visit(demo)
    ask(page, CASH)
    snapshot = page.locator("body").aria_snapshot()
    found = re.findall(rf"^ *- '?({'|'.join(WIDGETS)})\b(.*)$", snapshot, re.M)
    assert {role for role, _ in found} >= {"button", "textbox", "slider", "spinbutton", "switch", "radio", "img"}
    for role, rest in found:
        assert re.match(r' "[^"]+"', rest), (role, rest)
    for legend in ("Steering", "Positions", "Layers"):
        expect(page.get_by_role("group", name=legend)).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title()


def test_columns_stack_on_a_narrow_screen(visit: Visit, demo: str) -> None:
    for width, stacked in ((1180, False), (360, True)):
        page = visit(demo, viewport={"width": width, "height": 800})
        ask(page, CASH)
        base, steered = (page.locator(f"#{column}").bounding_box() for column in ("base", "steered"))
        assert base
        assert steered
        assert (base["y"] >= steered["y"] + steered["height"]) == stacked
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("reduced", [True, False])
def test_nothing_moves_for_whom_motion_disturbs(visit: Visit, demo: str, reduced: bool) -> None:
    page = visit(demo, reduced_motion="reduce" if reduced else "no-preference")
    ask(page, CASH)
    expect(bars(page)).to_have_count(29)
    page.evaluate("document.querySelector('.message').setAttribute('aria-busy', 'true')")
    moving = page.evaluate(
        """[...document.querySelectorAll("body *")].flatMap((it) => ["", "::before", "::after"].map(
            (part) => getComputedStyle(it, part))).filter((style) => style.animationName != "none"
            || style.transitionDuration != "0s").length"""
    )
    assert (moving == 0) == reduced


def test_a_thumb_stands_under_the_bar_of_its_layer(visit: Visit, demo: str) -> None:
    page = visit(demo)
    ask(page, CASH)
    page.get_by_role("slider", name="First layer").fill("10")
    bar = bars(page).nth(9).bounding_box()
    assert bar
    line = page.locator(".range").bounding_box()
    assert line
    thumb = 18
    x = line["x"] + thumb / 2 + (line["width"] - thumb) * 9 / 28
    assert x == pytest.approx(bar["x"] + bar["width"] / 2, abs=1)
    page.mouse.move(x, line["y"] + line["height"] / 2)  # and is dragged with the mouse
    page.mouse.down()
    page.mouse.move(x + (line["width"] - thumb) / 28 * 3, line["y"] + line["height"] / 2, steps=4)
    page.mouse.up()
    expect(page.get_by_role("slider", name="First layer")).to_have_value("13")
