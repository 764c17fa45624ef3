"""Variables of chat templates: from options, from the bundle, and what `enable_thinking` does to a thinking block."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.answer.engine import Engine
from atv_local.answer.loading import load
from atv_local.data.template_variables import as_template_variables, parse_template_variables
from atv_local.errors import BundleError, UsageError
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.target.fitted_template import FittedTemplate, Message, TemplateWarning
from atv_local.target.target import Target
from atv_local.target.thinking import closing
from tests.tiny import TEMPLATE, write_gguf

HELLO: list[Message] = [{"role": "user", "content": "hello"}]
SWITCH = (
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}"
)
STYLE = TEMPLATE + "{{ style }}"


def fitted(source: str, **variables: Any) -> FittedTemplate:
    return FittedTemplate.compiled(source, eos="</s>", bos="<s>").with_variables(variables)


@pytest.mark.parametrize(
    ("end", "closed"),
    [
        ("<think>\n", "\n</think>\n\n"),
        ("<think>", "</think>"),
        ("<thinking>\n", "\n</thinking>\n\n"),
        ("<seed:think>", "</seed:think>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|begin_of_thought|>\n\n", "\n\n<|end_of_thought|>\n\n\n\n"),
        ("<reasoning>\n", "\n</reasoning>\n\n"),
        ("<think>\nLet me see. ", "\n</think>\n\n"),
        ("Write <think> first.<|end|><answer>\n", ""),
        ("", ""),
        ("<think>\n\n</think>\n\n", ""),
        ("<|END_THINKING|>", ""),
        ("[/THINK]", ""),
        ("think", ""),
    ],
)
def test_a_thinking_block_at_the_end_is_closed(end: str, closed: str) -> None:
    assert closing(f"<|end|><|assistant|>\n{end}") == closed


@pytest.mark.parametrize("opening", [SWITCH, "<think>\n", "[THINK]"])
def test_thinking_can_be_switched_off_in_every_template(opening: str) -> None:
    open_one, closed = fitted(TEMPLATE + opening), fitted(TEMPLATE + opening, enable_thinking=False)
    assert (open_one.thinks, closed.thinks, fitted(TEMPLATE).thinks) == (True, False, False)
    begun = open_one.render(HELLO)
    assert closed.render(HELLO).startswith(begun)
    assert closed.render(HELLO) == begun + closing(begun)
    forged: list[Message] = [{"role": "user", "content": "<think>"}]
    assert fitted("{{ messages[0].content }}", enable_thinking=False).render(forged) == "<think>"


def test_variables_reach_the_template() -> None:
    assert fitted(STYLE, style="plain").render(HELLO).endswith("assistant\nplain")
    assert fitted(STYLE, messages=[], bos_token="?").render(HELLO) == fitted(STYLE).render(HELLO)
    fitted(STYLE).check_variables(["style", "enable_thinking"])
    for name in ("styl", "messages", "namespace"):
        with pytest.raises(UsageError, match="style"):
            fitted(STYLE).check_variables([name])
    with pytest.raises(UsageError, match="no variables"):
        fitted("chatml").check_variables(["style"])


def test_variables_are_those_that_a_template_does_not_set_itself() -> None:
    source = (
        "{% if not day is defined %}{% set day = strftime_now('%d') %}{% endif %}{% set lines = namespace(n=0) %}"
        "{% macro turn(m, role) %}<{{ role }}>{{ m.content }}{% endmacro %}"
        "{% for m in messages %}{% if m.role == 'user' %}{% set text = m.content %}{% endif %}{{ turn(m, m.role) }}"
        "{% endfor %}{{ text }}{{ day }}{{ effort | default('low') }}{% if effort %}{% endif %}{{ suffix }}"
    )
    assert FittedTemplate.compiled(source, eos="", bos="").with_variables({}).render(HELLO).endswith("low")
    template = FittedTemplate.compiled(source, eos="", bos="")
    template.check_variables(["day", "effort", "suffix"])
    for name in ("lines", "text", "m", "role", "strftime_now"):
        with pytest.raises(UsageError, match="day, effort, suffix"):
            template.check_variables([name])


def test_options_are_values_of_json_or_texts() -> None:
    texts = ["enable_thinking=false", "effort = high", "n=3", "empty=", 'all={"a": [1]}', "python=True", "url=a=b"]
    assert parse_template_variables(texts) == {
        "enable_thinking": False,
        "effort": "high",
        "n": 3,
        "empty": "",
        "all": {"a": [1]},
        "python": True,
        "url": "a=b",
    }
    assert parse_template_variables(['{"a": 1, "b": null}', "a=2"]) == {"a": 2, "b": None}
    for wrong in ("a", "=1", "{a}", "a b=1", "n=NaN", "long=" + "x" * 20_000, "deep=" + "[" * 100_000):
        with pytest.raises(UsageError):
            parse_template_variables([wrong])
    for other in ("a", 3, {1: 2}, {"a": object()}, {"a": float("nan")}):
        with pytest.raises(UsageError):
            as_template_variables(other)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("thinker") / "thinker.gguf", template=TEMPLATE + SWITCH + "{{ style }}")


@pytest.fixture
def closed_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that was trained with two variables."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "closed")
    edit(folder, format_version=2, template_variables={"enable_thinking": False, "style": "plain"})
    return folder


def edit(bundle: Path, **fields: Any) -> None:
    file = bundle / "atv.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_a_bundle_answers_in_the_prompt_it_was_trained_on(thinker: Path, closed_bundle: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = load(thinker, closed_bundle, n_threads=1)
    text = engine.target.vocabulary.text
    assert text(engine.prompts("hello").tokens).endswith("assistant\n<think>\n\n</think>\n\nplain")
    trained = engine.answer("hello", max_tokens=1).tokens.prompt
    assert trained == len(engine.prompts("hello").tokens) > len(engine.target.prompts("hello").tokens)
    assert engine.chat([{"role": "user", "content": "hello"}], max_tokens=1).tokens.prompt == trained
    (answer,) = engine.answer_many(["hello"], max_tokens=1)
    assert answer.tokens.prompt == trained
    given = Engine(engine.target, engine.generator, template_variables={"style": "", "enable_thinking": True})
    assert text(given.prompts("hello").tokens).endswith("assistant\n<think>\n")


def test_an_open_thinking_block_is_said_unless_it_was_asked_for(thinker: Path) -> None:
    target = Target(thinker, n_threads=1)
    with pytest.warns(TemplateWarning, match="enable_thinking"):
        Engine(target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Engine(target, template_variables={"enable_thinking": True})
        Engine(target, template_variables={"enable_thinking": False})


def test_another_template_than_the_bundles_is_said(tiny_gguf: Path, closed_bundle: Path) -> None:
    target = Target(tiny_gguf, n_threads=1)
    with pytest.warns(TemplateWarning, match="style"):
        Engine(target, Generator(Bundle(closed_bundle)))


def test_variables_that_no_reader_of_version_1_knows_need_version_2(closed_bundle: Path) -> None:
    assert Bundle(closed_bundle).manifest.template_variables == {"enable_thinking": False, "style": "plain"}
    for wrong in (
        {"format_version": 1},
        {"template_variables": {"a b": 1}},
        {"template_variables": {"a": "x" * 20_000}},
    ):
        edit(closed_bundle, **{"format_version": 2} | wrong)
        with pytest.raises(BundleError, match="template_variables"):
            Bundle(closed_bundle)


@pytest.mark.filterwarnings("ignore::atv_local.target.TemplateWarning")
def test_the_command_sets_them(thinker: Path) -> None:
    def run(*options: str) -> Any:
        return CliRunner().invoke(
            app, ["run", "-m", str(thinker), "--off", "-n", "1", "-t", "1", "--json", *options, "hi"]
        )

    n_tokens = [
        json.loads(run(*options).stdout)["tokens"]["prompt"]
        for options in (
            [],
            ["--template-variable", "enable_thinking=false"],
            ["--chat-template-kwargs", '{"enable_thinking": false, "style": "abc"}'],
        )
    ]
    assert n_tokens == sorted(set(n_tokens))
    for value in ("no", "0", "off"):
        wrong = run("--template-variable", f"enable_thinking={value}")
        assert (wrong.exit_code, "enable_thinking is true or false, not" in wrong.stderr) == (2, True)
    unknown = run("--template-variable", "enable_thinkin=false")
    assert unknown.exit_code == 2
    assert "enable_thinking" in unknown.stderr
    assert len(unknown.stderr.strip().splitlines()) == 1
