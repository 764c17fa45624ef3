"""The page of `atv-local serve`, used as people use it: by clicking and typing in a browser, against a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.page.browsing import (
    CASH,
    CHARGE,
    Visit,
    ask,
    bars,
    facts,
    heights,
    norms,
    of_server,
    serving,
    text,
    until,
)

STORY = "Tell me a very long story about a lighthouse."
CONTROLS = "button, input, select, textarea, summary"


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path, tiny_bundle: Path) -> Iterator[str]:
    """The tiny pair, with the same bundle under two names."""
    with serving("-m", tiny_gguf, "-g", f"one={tiny_bundle}", "-g", f"two={tiny_bundle}") as (url, _):
        yield url


def test_the_demo_knows_its_task_on_the_steered_side_and_says_by_what(visit: Visit, demo: str) -> None:
    page = visit(demo)
    base, steered = ask(page, CASH)
    assert text(page, "With steering") == CHARGE != text(page, "Without steering") != ""
    default = of_server(demo, "/v1/models/demo")["steering"]
    assert base["steering"] is False
    assert steered["steering"] == {
        "bundle": "demo",
        **{name: default[name] for name in ("strength", "layers", "positions")},
    }
    said = facts(page, "With steering")
    first, last = default["layers"]
    words = f"strength {default['strength']:g}, layers {first}-{last}, {default['positions']}"
    assert said["Applied"] == f"demo {default['bundle_id']}, {words}"
    assert re.fullmatch(r"\d+ read, 3 written", said["Tokens"])
    assert re.fullmatch(r"after \d+\.\d\d s", said["First token"])
    assert facts(page, "Without steering")["Applied"].startswith("nothing")


def test_stop_stops_the_server_too(visit: Visit, demo: str) -> None:
    page = visit(demo)
    page.get_by_label("Longest answer").fill("1800")
    page.get_by_label("Your query").fill(STORY)
    page.get_by_role("button", name="Answer", exact=True).click()
    said = page.locator("#base .message")
    expect(said.locator(".text")).not_to_be_empty()
    assert (said.get_attribute("aria-busy"), said.get_attribute("aria-live")) == ("true", "polite")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.")
    expect(said).to_have_attribute("aria-busy", "false")
    until(lambda: of_server(demo, "/health")["running"] == 0)
    assert float(re.findall(r"^atv_cancelled_total (\S+)", of_server(demo, "/metrics"), re.M)[0]) >= 1
    assert re.fullmatch(r"stopped after \d+", facts(page, "Without steering")["Tokens"])
    before = text(page, "Without steering")
    ask(page, CASH)
    assert text(page, "With steering") == CHARGE
    assert text(page, "Without steering") != before


def test_a_server_that_dies_is_said(visit: Visit) -> None:
    with serving() as (url, process):
        page = visit(url, "net::ERR_")
        page.get_by_label("Longest answer").fill("1800")
        page.get_by_label("Your query").fill(STORY)
        page.get_by_role("button", name="Answer", exact=True).click()
        expect(page.locator("#base .text")).not_to_be_empty()
        process.kill()
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
        expect(page.locator("#base .message")).to_have_attribute("aria-busy", "false")


def test_strength_changes_what_is_asked_drawn_and_answered(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    ask(page, "apple 1")
    expect(bars(page)).to_have_count(3)
    full = norms(page)
    assert text(page, "With steering") == "a" != text(page, "Without steering")
    page.get_by_role("slider", name="Strength").fill("0.5")
    expect(page.get_by_label("Strength, as a number")).to_have_value("0.5")
    until(lambda: norms(page) == pytest.approx([norm / 2 for norm in full], rel=1e-6))
    page.get_by_label("Strength, as a number").fill("0")
    expect(page.get_by_role("slider", name="Strength")).to_have_value("0")
    until(lambda: norms(page) == [0, 0, 0])
    assert ask(page, "apple 1")[1]["steering"]["strength"] == 0
    assert text(page, "With steering") == text(page, "Without steering")
    page.get_by_label("Strength, as a number").fill("7")
    page.get_by_label("Strength, as a number").blur()
    expect(page.get_by_label("Strength, as a number")).to_have_value("2")
    expect(page.locator("#strength-note")).to_have_text("Set to 2: here strength goes from 0 to 2.")
    page.get_by_role("button", name="Defaults of the bundle").click()
    until(lambda: norms(page) == full)


def test_layers_are_a_range_of_the_models(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    first, last = (page.get_by_role("slider", name=f"{which} layer") for which in ("First", "Last"))
    assert (first.get_attribute("min"), last.get_attribute("max"), last.input_value()) == ("1", "3", "3")
    page.get_by_label("Your query").fill("apple 1")
    until(lambda: bars(page).count() == 3 and min(heights(page)) > 0)
    first.fill("2")
    until(lambda: [height > 0 for height in heights(page)] == [False, True, True])
    last.fill("1")  # pushes the first
    expect(first).to_have_value("1")
    until(lambda: [height > 0 for height in heights(page)] == [True, False, False])
    assert ask(page, "apple 1")[1]["steering"]["layers"] == [1, 1]
    assert "layer 1," in facts(page, "With steering")["Applied"]
    page.get_by_text("The same as a table").click()
    rows = page.get_by_role("table").get_by_role("row").all_inner_texts()[1:]
    assert [row.split() for row in rows] == [["1", rows[0].split()[1]], ["2", "0"], ["3", "0"]]


def test_the_norms_are_the_servers_and_follow_the_query(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    for query in ("apple 1", "cow 2"):
        page.get_by_label("Your query").fill(query)
        wanted = of_server(tiny, "/v1/steering", {"query": query})["norms"]
        until(lambda wanted=wanted: norms(page) == wanted)
    expect(page.get_by_role("img", name=re.compile("layers 1 to 3 get from .* most at layer"))).to_be_visible()


def test_off_is_the_base_model_twice(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    page.get_by_role("switch", name="Steer the answer").click()
    assert [asked["steering"] for asked in ask(page, "apple 1")] == [False, False]
    assert text(page, "With steering") == text(page, "Without steering")
    until(lambda: norms(page) == [0, 0, 0])
    page.get_by_role("switch", name="Steer the answer").click()
    ask(page, "apple 1")
    assert text(page, "With steering") == "a"


def test_bundle_and_positions_can_be_chosen(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    assert ask(page, "apple 1")[1]["steering"]["bundle"] == "one"
    page.get_by_label("Bundle").select_option("two")
    page.get_by_role("radio", name="all").check()
    asked = ask(page, "apple 1")[1]["steering"]
    assert (asked["bundle"], asked["positions"]) == ("two", "all")
    said = facts(page, "With steering")["Applied"]
    assert said.startswith("two ")
    assert said.endswith(", all")


def test_without_a_bundle_there_is_one_column(visit: Visit, tiny_gguf: Path) -> None:
    with serving("-m", tiny_gguf, "--off", "-n", "5") as (url, _):
        page = visit(url)
        expect(page.get_by_role("alert")).to_contain_text("no bundle")
        (asked,) = ask(page, "apple 1")
        assert (asked["steering"], asked["max_tokens"]) == (False, 5)
        assert text(page, "Without steering")
        expect(page.get_by_role("region", name="With steering")).to_be_hidden()
        expect(page.get_by_role("switch")).to_be_hidden()


def test_it_works_with_the_keyboard_alone(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    every = (
        page.locator(CONTROLS)
        .locator("visible=true")
        .evaluate_all("all => all.map(it => it.id || it.value || it.tagName)")
    )
    reached = []
    for _ in range(len(every) + 2):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        outlined = page.evaluate(
            """[document.activeElement, document.activeElement.closest("label")].some((it) => it &&
                getComputedStyle(it).outlineStyle == "solid") || document.activeElement.matches(".range input")"""
        )
        assert outlined or reached[-1] == "BODY", reached[-1]
        if reached[-1] == "query":
            page.keyboard.type("apple 1")
            page.keyboard.press("Control+Enter")
            expect(page.locator("#status")).to_have_text("Done.")
        if reached[-1] == "strength":
            page.keyboard.press("ArrowLeft")
        if reached[-1] == "on":
            page.keyboard.press("Space")
            page.keyboard.press("Space")
    radios = {"last", "all", "decode", "chat-mode"}  # Tab stops once in a group, and the arrows move in it
    assert set(every) - radios <= set(reached)
    assert text(page, "With steering") == "a"
    expect(page.get_by_label("Strength, as a number")).to_have_value("0.95")


def test_a_refusal_is_said_in_the_servers_words_and_then_gone(visit: Visit, tiny: str) -> None:
    page = visit(tiny, "status of 400")
    page.get_by_label("Your query").fill("apple " * 200)
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text(re.compile(r"^The prompt has \d+ tokens and the context 512; "))
    ask(page, "apple 1")
    expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, "The server is busy. Try again in 7 seconds."),
        (503, "The server is stopping. Start it again, then send this again."),
        (500, "Something broke."),
    ],
)
def test_a_server_that_cannot_answer_says_why(visit: Visit, tiny: str, status: int, words: str) -> None:
    page = visit(tiny, f"status of {status}")
    said = {"error": {"message": "something broke"}}
    page.route("**/completions", lambda route: route.fulfill(status=status, headers={"retry-after": "7"}, json=said))
    page.get_by_label("Your query").fill("apple 1")
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text(words)
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()


def test_a_key_is_asked_for_and_kept_in_the_tab(visit: Visit, tiny_gguf: Path, tiny_bundle: Path) -> None:
    with serving("-m", tiny_gguf, "-g", tiny_bundle, "--api-key", "open-sesame") as (url, _):
        page = visit(url, "status of 401")
        for key, ready in (("wrong", False), ("open-sesame", True)):
            page.get_by_label("This server requires an API key").fill(key)
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_be_hidden() if ready else None
        expect(page.get_by_label("This server requires an API key")).to_be_hidden()
        page.reload()
        ask(page, "apple 1")
        assert text(page, "With steering") == "a"
        assert page.evaluate("[localStorage.length, document.cookie, location.search]") == [0, "", ""]


def test_an_answer_is_text_whatever_it_looks_like(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    said = "<img src=x onerror=alert(1)> & naïve 🙂\n<script>"

    def fulfil(route: Route) -> None:
        chunk = {"choices": [{"delta": {"content": said}, "finish_reason": "length"}], "steering": False}
        usage = {"choices": [], "steering": False, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        events = "".join(f"data: {json.dumps(each, ensure_ascii=False)}\r\n\r\n" for each in (chunk, usage))
        route.fulfill(content_type="text/event-stream", body=f": comment\r\n{events}data: [DONE]\r\n\r\n")

    page.route("**/completions", fulfil)
    ask(page, "apple 1")
    assert text(page, "With steering") == said
    assert page.locator("#answers img, #answers script").count() == 0
    assert facts(page, "With steering")["Tokens"] == "3 read, 2 written"
    expect(page.locator("#steered .limit")).to_have_text("Stopped because the context of 512 tokens is full.")


def test_the_browser_is_told_what_the_files_are_and_to_ask_for_them_again(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    found = page.request.get(f"{tiny}/page/app.js")
    assert found.headers["content-type"].startswith("text/javascript")
    again = page.request.get(f"{tiny}/page/app.js", headers={"if-none-match": found.headers["etag"]})
    assert again.status == 304
    for response in (page.request.get(tiny), found, again):
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert (
        page.request.get(f"{tiny}/page/../app.py").status
        == page.request.get(f"{tiny}/page/%2e%2e/app.py").status
        == 404
    )
