"""The page used for text: examples, conversations, formats of answers, long answers and limits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from atv_local import TaskVector
from tests.page.browsing import Visit, answering, ask, facts, norms, of_server, serving, text, until


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A control vector for the tiny target."""
    path = tmp_path_factory.mktemp("vectors") / "noise.gguf"
    TaskVector(np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)).save(path)
    return path


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path, tiny_bundle: Path, noise: Path) -> Iterator[str]:
    """The tiny pair, under the name that has examples and under another, and a control vector."""
    bundles = ("-g", f"other={tiny_bundle}", "-g", f"demo={tiny_bundle}")
    with serving("-m", tiny_gguf, *bundles, "--control-vector", f"noise={noise}") as (url, _):
        yield url


def say(page: Page, message: str) -> dict[str, Any]:
    """Send a message of a conversation, wait for the answer, and return what was asked."""
    sent: list[dict[str, Any]] = []
    page.on("request", lambda it: sent.append(it.post_data_json) if it.url.endswith("/completions") else None)
    page.get_by_label("Your message").fill(message)
    page.get_by_label("Your message").press("Enter")
    expect(page.locator("#status")).to_have_text("Done.")
    return sent[-1]


def test_examples_are_those_of_the_bundle_and_are_answered_at_once(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    examples = page.get_by_role("group", name="Examples")
    expect(examples).to_be_hidden()
    page.get_by_label("Bundle").select_option("demo")
    expect(examples).to_be_visible()
    examples.get_by_role("button").first.click()
    expect(page.locator("#status")).to_have_text("Done.")
    shown = examples.get_by_role("button").first.locator("span").inner_text()
    assert page.get_by_label("Your query").input_value() == shown != ""
    assert text(page, "With steering")


def test_of_several_bundles_each_query_has_the_one_that_it_fits(
    visit: Visit, tiny_gguf: Path, fruits_bundle: Path, beasts_bundle: Path
) -> None:
    with serving("-m", tiny_gguf, "-g", f"f={fruits_bundle}", "-g", f"b={beasts_bundle}") as (url, _):
        page = visit(url)
        expect(page.get_by_label("Bundle")).to_have_value("auto")
        applied = []
        for query in ("pear 7", "a cow", "something else"):
            ask(page, query)
            applied.append(facts(page, "With steering")["Applied"])
    assert (applied[0][:2], applied[1][:2], applied[2][:7]) == ("f ", "b ", "nothing")
    assert re.search("layers 1.2,", applied[1])


def test_enter_sends_and_shift_enter_is_a_new_line(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    query = page.get_by_label("Your query")
    query.press("Enter")
    expect(page.locator("#status")).to_have_text("Type something first.")
    query.press_sequentially("apple")
    query.press("Shift+Enter")
    query.press_sequentially("1")
    assert query.input_value() == "apple\n1"
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    query.press("Enter")
    expect(page.locator("#status")).to_have_text("Done.")
    assert query.input_value() == "apple\n1"
    assert text(page, "With steering")


def test_a_conversation_is_steered_turn_by_turn(visit: Visit, tiny: str) -> None:
    page = visit(f"{tiny}")
    page.get_by_role("radio", name="Chat").check()
    expect(page.get_by_role("region", name="With steering")).to_be_hidden()
    first = say(page, "apple 1")
    assert (first["messages"], first["steering"]["bundle"]) == ([{"role": "user", "content": "apple 1"}], "other")
    answer = page.locator("#log .text").first.inner_text()
    assert answer == "a"
    until(lambda: max(norms(page)) > 0)  # of the last message, although the field is empty
    page.get_by_role("switch", name="Steer the answer").click()
    second = say(page, "cow 2")
    assert [message["content"] for message in second["messages"]] == ["apple 1", answer, "cow 2"]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["steering"] is False
    assert page.locator("#log .mine").all_inner_texts() == ["apple 1", "cow 2"]
    page.route("**/completions", lambda _: None)  # no answer comes
    page.get_by_label("Your message").fill("apple 3")
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Stop").press("Enter")
    expect(page.locator("#status")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    expect(page.get_by_label("Your message")).to_have_value("apple 3")  # nothing was said, so it can be sent again
    assert page.locator("#log .mine").all_inner_texts() == ["apple 1", "cow 2"]
    page.unroute("**/completions")
    page.reload()  # the mode stays, and the conversation does not
    expect(page.get_by_role("radio", name="Chat")).to_be_checked()
    say(page, "apple 1")
    page.get_by_role("button", name="Clear the conversation").click()
    expect(page.locator("#log")).to_be_hidden()
    assert len(say(page, "cow 2")["messages"]) == 1


def test_a_conversation_that_outgrows_the_context_leaves_out_its_beginning(visit: Visit, tiny: str) -> None:
    page = visit(tiny, "status of 400")
    page.get_by_role("radio", name="Chat").check()
    say(page, "apple " * 40)
    assert len(say(page, "cow " * 40)["messages"]) == 1
    expect(page.locator("#log .left-out").last).to_contain_text("context has 512 tokens; earlier messages")
    page.get_by_label("Your message").fill("apple " * 300)  # too long alone
    page.get_by_label("Your message").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("the context 512")
    expect(page.get_by_label("Your message")).to_have_value("apple " * 300)
    expect(page.locator("#log .mine")).to_have_count(2)


def test_limits_are_said_and_a_cut_answer_can_go_on(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    longest = page.get_by_label("Longest answer")
    longest.fill("100000")
    longest.blur()
    expect(longest).to_have_value("512")
    expect(page.locator("#longest-note")).to_have_text("Set to 512, the most that this server writes.")
    page.get_by_label("Your query").fill("cow " * 100)
    expect(page.locator("#norms-note")).to_contain_text("The vector is read from the first ")
    longest.fill("3")
    ask(page, "apple 1")
    expect(page.locator("#base .limit")).to_have_text("Stopped at 3 tokens.")
    expect(page.locator("#norms-note")).to_be_empty()
    before = text(page, "Without steering")
    page.locator("#base").get_by_role("button", name="Continue").click()
    expect(page.locator("#base .limit")).to_have_text("Stopped at 6 tokens.")
    assert text(page, "Without steering").startswith(before)
    assert len(text(page, "Without steering")) > len(before)
    assert text(page, "With steering") == "a"


def test_json_is_indented_and_can_be_copied(visit: Visit, tiny: str) -> None:
    page = visit(tiny, permissions=["clipboard-read", "clipboard-write"])
    answering(page, '{"city": "Bern", "tags": ["a: b", null], "n": -1.5e3, "x": "<b>\\"1\\"</b>"}')
    ask(page, "apple 1")
    wanted = json.dumps({"city": "Bern", "tags": ["a: b", None], "n": -1500, "x": '<b>"1"</b>'}, indent=2)
    assert text(page, "With steering") == wanted
    coloured = page.locator("#steered .text span")
    assert coloured.all_inner_texts() == [
        *('"city"', '"Bern"', '"tags"', '"a: b"', "null", '"n"', "-1500", '"x"', '"<b>\\"1\\"</b>"')
    ]
    assert page.locator("#steered .text .name").count() == 4
    page.locator("#steered").get_by_role("button", name="Copy").click()
    expect(page.locator("#steered").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == wanted


def test_choices_are_the_only_answers_and_have_probabilities(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    page.get_by_text("Answer format:").click()
    page.get_by_role("group", name="Answer format").get_by_role("radio", name="choices").check()
    allowed = page.get_by_label("Allowed answers")
    assert allowed.input_value().split("\n") == of_server(tiny, "/v1/models/other")["labels"] != [""]
    allowed.fill("spam")
    page.get_by_label("Your query").fill("apple 1")
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.locator("#choices-note")).to_have_text("Name at least two different answers.")
    expect(allowed).to_be_focused()
    allowed.fill("spam, ham, spam,")
    assert [asked["choices"] for asked in ask(page, "apple 1")] == [["spam", "ham"]] * 2
    for column in ("#steered", "#base"):
        best, other = page.locator(f"{column} .probabilities dt").all_inner_texts()
        assert {best, other} == {"spam", "ham"}
        assert page.locator(f"{column} .text").inner_text() == best
        shares = [
            float(bar.removesuffix(" %")) for bar in page.locator(f"{column} .probabilities dd").all_inner_texts()
        ]
        assert sum(shares) == pytest.approx(100, abs=0.2)
        assert shares[0] >= shares[1]
        wide, narrow = (
            bar.evaluate("it => parseFloat(getComputedStyle(it, '::after').width)")
            for bar in page.locator(f"{column} .probabilities dd").all()
        )
        assert wide * shares[1] == pytest.approx(narrow * shares[0], rel=0.05, abs=300)


def test_json_follows_a_schema(visit: Visit, tiny: str) -> None:
    page = visit(tiny, "status of 400")
    page.get_by_text("Answer format:").click()
    formats = page.get_by_role("group", name="Answer format")
    formats.get_by_role("radio", name="JSON").check()
    page.get_by_label("JSON schema").fill("{")
    page.get_by_label("Your query").fill("apple 1")
    page.get_by_label("Your query").press("Enter")
    expect(page.locator("#schema-note")).to_contain_text("This is not JSON: ")
    properties = {"kind": {"enum": ["fruit", "animal"]}, "ok": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    page.get_by_label("JSON schema").fill(json.dumps(schema))
    asked, _ = ask(page, "apple 1")
    assert asked["response_format"]["json_schema"]["schema"] == schema
    for column in ("With steering", "Without steering"):
        answer = json.loads(text(page, column))
        assert answer["kind"] in ("fruit", "animal")
        assert isinstance(answer["ok"], bool)
    page.get_by_label("JSON schema").fill('{"not": {}}')
    page.get_by_label("Your query").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The schema cannot be used: ")
    formats.get_by_role("radio", name="free text").check()
    assert "response_format" not in ask(page, "apple 1")[0]
    assert text(page, "With steering") == "a"


def test_control_vectors_are_added_with_their_factor(visit: Visit, tiny: str) -> None:
    page = visit(tiny)
    assert "control_vectors" not in ask(page, "apple 1")[1]["steering"]
    plain = norms(page)
    page.get_by_label("noise").fill("0.5")
    until(lambda: norms(page) != plain)
    assert ask(page, "apple 1")[1]["steering"]["control_vectors"] == [{"name": "noise", "scale": 0.5}]
    assert re.search(", 0.5 . noise, strength 1, ", facts(page, "With steering")["Applied"])
    page.get_by_role("button", name="Defaults of the bundle").click()
    until(lambda: norms(page) == plain)


def test_a_query_that_the_gate_does_not_let_through_is_said(
    visit: Visit, tiny_gguf: Path, gated_bundle: Path, noise: Path
) -> None:
    with serving("-m", tiny_gguf, "-g", f"kinds={gated_bundle}", "--control-vector", f"noise={noise}") as (url, _):
        page = visit(url)
        ask(page, "something else")
        expect(page.locator("#norms-note")).to_contain_text("Not steered: this query scores 0.00 as kinds")
        assert facts(page, "With steering")["Applied"] == "nothing; this is the base model"
        page.get_by_label("noise").fill("0.5")
        ask(page, "something else")
        assert re.match("0.5 . noise, strength 1, ", facts(page, "With steering")["Applied"])
        ask(page, "pear 7")
        expect(page.locator("#norms-note")).to_be_empty()
        assert facts(page, "With steering")["Applied"].startswith("kinds ")


def test_an_instruction_is_read_by_both_answers(visit: Visit, tiny_gguf: Path, told_bundle: Path) -> None:
    with serving("-m", tiny_gguf, "-g", f"told={told_bundle}") as (url, _):
        page, sent = visit(url), []
        page.on("request", lambda it: sent.append(it.post_data_json) if it.url.endswith("/completions") else None)
        page.get_by_text("Instruction: none").click()
        offered = page.locator("#instructions option").evaluate_all("all => all.map(one => one.value)")
        assert offered == ["Sort the word.", "Name the kind."]
        page.get_by_label("What to do with the query").fill(offered[1])
        expect(page.locator("#instruction-chosen")).to_have_text("name")
        ask(page, "something else")
        assert [one["steering"]["task"] for one in sent] == ["name", "name"]
        assert sorted(one["steering"]["strength"] for one in sent) == [0, 1]
        page.get_by_label("What to do with the query").fill("Do it.")
        expect(page.locator("#instruction-chosen")).to_have_text("in words")
        ask(page, "something else")
        assert [one["steering"]["instruction"] for one in sent[2:]] == ["Do it.", "Do it."]
        page.get_by_label("What to do with the query").fill("")
        ask(page, "pear 7")
        assert sent[4]["steering"] is False or sent[5]["steering"] is False
