"""What was said is in the prompt, whatever form the chat template takes it in; or the model is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.errors import ModelError
from atv_local.target.chat_template import builtin_templates
from atv_local.target.fitted_template import FittedTemplate, Message, TemplateWarning
from atv_local.target.target_file import TargetFile
from tests.tiny import TEMPLATE, write_gguf

TURN = "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}<answer>"
PARTS = {
    "loop": TURN,
    "first": "{% for m in messages %}<{{ m['role'] }}>{{ m['content'][0]['text'] }}{% endfor %}<answer>",
    "by type": TURN.replace("m.content %}", "m.content if part.type == 'text' %}"),
    "selected": (
        "{% for m in messages %}<{{ m.role }}>{{ m.content | selectattr('type', 'equalto', 'text') "
        "| map(attribute='text') | join }}{% endfor %}<answer>"
    ),
    "only the user's": (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'user' %}{% for part in m.content %}{{ part.text }}"
        "{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}<answer>"
    ),
    "raises without": TURN.replace(
        "<{{", "{% if m.content is string %}{{ raise_exception('no parts') }}{% endif %}<{{"
    ),
}
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>"
WITHOUT_SYSTEM = {
    "left out": PLAIN.replace("in messages", "in messages if m.role != 'system'"),
    "refused": PLAIN.replace("<{{", "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}<{{"),
    "a sentence": PLAIN.replace("m.content }}", "m.content.split('.')[0] if m.role == 'system' else m.content }}"),
    "alternating": PLAIN.replace(
        "<{{",
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}<{{",
    ),
    "in parts": TURN.replace("in messages", "in messages if m.role != 'system'"),
}
SAYS_NOTHING = {
    "fixed text": "{% for m in messages %}<{{ m.role }}>hello{% endfor %}<answer>",
    "other fields": "{% for m in messages %}<{{ m.from }}>{{ m.value }}{% endfor %}<answer>",
    "only roles": "{% for m in messages %}<{{ m.role }}>{% endfor %}",
    "only answers": PLAIN.replace("in messages", "in messages if m.role == 'assistant'"),
    "an unknown name": "mychat",
    "nothing": "{% set nothing = 1 %}",
    "the beginning": PLAIN.replace("m.content", "m.content[:500]"),
    "a sentence": PLAIN.replace("m.content", "m.content.split('.')[0]"),
    **{
        change: PLAIN.replace("m.content", f"(m.content{change} if m.role == 'user' else m.content)")
        for change in ("|e", "|lower", "|upper", "|replace('\\n', ' ')", "|replace('\"', '')", "|tojson", "|title")
    },
}
CONVERSATION: list[Message] = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]


def fitted(source: str) -> FittedTemplate:
    return FittedTemplate.compiled(source, eos="</s>", bos="<s>")


@pytest.mark.parametrize("name", PARTS)
def test_content_in_parts(name: str) -> None:
    expected = "<system>be brief<user>one<assistant>two<user>three<answer>"
    assert fitted(PARTS[name]).render(CONVERSATION) == expected


@pytest.mark.parametrize("name", WITHOUT_SYSTEM)
def test_a_system_message_that_is_not_taken_is_in_the_users(name: str) -> None:
    with pytest.warns(TemplateWarning, match="system message"):
        text = fitted(WITHOUT_SYSTEM[name]).render(CONVERSATION)
    assert text == "<user>be brief\none<assistant>two<user>three<answer>"


def test_a_later_system_message_is_in_the_next_users() -> None:
    only_first = PLAIN.replace("in messages", "in messages if m.role != 'system' or loop.first")
    first = PLAIN.replace(
        "{% for", "{% if messages[0].role == 'system' %}<system>{{ messages[0].content }}{% endif %}{% for"
    )
    for source in (first.replace("in messages", "in messages if m.role != 'system'"), only_first):
        template = fitted(source)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if source != only_first:
                assert template.render(CONVERSATION) == "<system>be brief<user>one<assistant>two<user>three<answer>"
        with pytest.warns(TemplateWarning):
            text = template.render([*CONVERSATION[1:3], CONVERSATION[0], CONVERSATION[3]])
        assert text == "<user>one<assistant>two<user>be brief\nthree<answer>"


@pytest.mark.parametrize("name", SAYS_NOTHING)
def test_one_that_leaves_out_what_the_user_says_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="leaves out the user's text"):
        fitted(SAYS_NOTHING[name])


def test_one_that_forgets_earlier_turns_warns() -> None:
    template = fitted("<{{ messages[-1].role }}>{{ messages[-1].content }}<answer>")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert template.render(CONVERSATION[1:2]) == "<user>one<answer>"
    with pytest.warns(TemplateWarning, match="earlier turns"):
        template.render(CONVERSATION[1:])


@pytest.mark.parametrize("change", ["|trim", ".strip()", "|trim|safe", ".lstrip('\\n')"])
def test_space_around_what_is_said_may_go(change: str) -> None:
    assert fitted(PLAIN.replace("m.content", f"m.content{change}")).render(CONVERSATION).startswith("<system>be brief")


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ("split('</think>')[-1]", "</think>"),
        ("split('</thought>')[-1]", "</thought>"),
        ("replace('/think', '')", "</think>"),
    ],
)
def test_one_that_treats_what_the_user_says_as_an_answer_warns(change: str, end: str) -> None:
    asked: Message = {"role": "user", "content": f"what is {end} for?"}
    source = PLAIN.replace("m.content", f"m.content.{change}")
    template = fitted(source)
    assert f"cuts or changes the user's text at {end}" in template.summary()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert template.render(CONVERSATION[1:2]) == "<user>one<answer>"
        answers = source.replace(change, f"{change} if m.role == 'assistant' else m.content")
        assert fitted(answers).render([asked]) == f"<user>what is {end} for?<answer>"
    with pytest.warns(TemplateWarning, match=f"the user's text at {end}"):
        assert template.render([asked]) != fitted(answers).render([asked])


@pytest.mark.parametrize("name", sorted(builtin_templates()))
def test_a_name_is_that_of_llama_cpps_template(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TemplateWarning)
        text = fitted(f" {name}\n").render(CONVERSATION)
    places = [text.index(message["content"]) for message in CONVERSATION]
    assert places == sorted(places)


def test_a_long_conversation_in_a_built_in_template() -> None:
    text = fitted("chatml").render([{"role": "user", "content": "ü" * 5000}])
    assert text == f"<|im_start|>user\n{'ü' * 5000}<|im_end|>\n<|im_start|>assistant\n"
    with pytest.raises(ModelError, match="NUL"):
        fitted("chatml").render([{"role": "user", "content": "a\0b"}])


def test_text_that_spells_control_tokens_stays_text_in_every_form(tmp_path: Path) -> None:
    for place, source in enumerate(("chatml", TEMPLATE.replace("m['content']", "m['content'][0]['text']"))):
        file = TargetFile.open(write_gguf(tmp_path / f"{place}.gguf", template=source))
        (control,) = file.vocabulary.tokenize("<|im_end|>", special=True)
        tokens = file.prompts("hi<|im_end|>").tokens
        assert tokens.count(control) == 1
        assert "hi<|im_end|><|im_end|>" in file.vocabulary.text(tokens)


def test_no_end_token_stands_between_prompt_and_answer(tmp_path: Path) -> None:
    plain, with_end = (
        TargetFile.open(write_gguf(tmp_path / f"{add_eos}.gguf", add_eos=add_eos)) for add_eos in (False, True)
    )
    assert with_end.prompts("hello") == plain.prompts("hello")
    assert with_end.prompts.answer("hello", "a") == plain.prompts.answer("hello", "a")
    long = "abc " * 20_000
    assert with_end.vocabulary.tokenize(long, special=True) == plain.vocabulary.tokenize(long, special=True)
    spelt = f"a{plain.vocabulary.eos_text}"
    assert with_end.vocabulary.tokenize(spelt, special=True) == plain.vocabulary.tokenize(spelt, special=True)


def test_the_command_refuses_it_in_one_sentence(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "bad.gguf", template=SAYS_NOTHING["nothing"])
    run = CliRunner().invoke(app, ["run", "-m", str(path), "--off", "-n", "1", "a"])
    assert run.exit_code == 1, run.output
    assert len(run.stderr.strip().splitlines()) == 1
    assert "chat template" in run.stderr
