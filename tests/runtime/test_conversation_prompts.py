"""What the target reads of a conversation, whatever its template does with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atv_local.errors import ModelError
from atv_local.target.fitted_template import Message
from atv_local.target.prompt import Prompt, PromptFormat
from atv_local.target.target_file import TargetFile
from atv_local.target.vocabulary import Vocabulary
from tests.runtime.templates import ALTERNATING, AT_THE_END, FORGED, FORGETTING
from tests.tiny import TEMPLATE, write_gguf

TEXTS = st.text(st.sampled_from("ab <|>\n\tü☃"), min_size=1, max_size=12)


def said(*texts: str) -> list[Message]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def rejoined(prompt: Prompt) -> tuple[int, ...]:
    return (*(token for segment in prompt.segments for token in segment), prompt.tokens[-1])


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Vocabulary]:
    folder = tmp_path_factory.mktemp("vocabularies")
    templates = {"plain": TEMPLATE, "forgetting": FORGETTING, "at the end": AT_THE_END, "none": ""}
    return {
        name: TargetFile.open(write_gguf(folder / f"{place}.gguf", template=template)).vocabulary
        for place, (name, template) in enumerate(templates.items())
    }


@settings(max_examples=15, deadline=None)
@given(TEXTS, st.none() | TEXTS)
@pytest.mark.parametrize("name", ["plain", "forgetting", "none"])
def test_one_turn_is_what_a_query_gives(
    vocabularies: dict[str, Vocabulary], name: str, text: str, system: str | None
) -> None:
    before: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    conversation = PromptFormat(vocabularies[name]).conversation([*before, *said(text)])
    assert conversation == PromptFormat(vocabularies[name], system)(text)


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, min_size=3, max_size=7).filter(lambda texts: len(texts) % 2))
def test_the_segments_of_an_earlier_turn_begin_those_of_a_later_one(
    vocabularies: dict[str, Vocabulary], texts: list[str]
) -> None:
    prompts = PromptFormat(vocabularies["plain"])
    later = prompts.conversation(said(*texts))
    assert rejoined(later) == later.tokens
    assert len(later.turns) == len(texts) - 1
    for count in range(1, len(texts), 2):
        earlier = prompts.conversation(said(*texts[:count])).segments
        assert later.segments[: len(earlier)] == earlier


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, min_size=3, max_size=7).filter(lambda texts: len(texts) % 2), st.none() | TEXTS)
@pytest.mark.parametrize("name", ["plain", "forgetting", "at the end", "none"])
def test_a_template_may_do_with_what_was_said_as_it_likes(
    vocabularies: dict[str, Vocabulary], name: str, texts: list[str], system: str | None
) -> None:
    before: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    messages = [*before, *said(*texts)]
    prompts = PromptFormat(vocabularies[name])
    prompt = prompts.conversation(messages)
    assert rejoined(prompt) == prompt.tokens
    if not any(vocabularies[name].spells_control(message["content"]) for message in messages):
        assert prompt.tokens == tuple(vocabularies[name].tokenize(prompts.render(messages), special=True))


def test_a_turn_that_the_template_changes_later_is_not_kept(vocabularies: dict[str, Vocabulary]) -> None:
    system: list[Message] = [{"role": "system", "content": "s"}]
    for name, before, n_kept in (("plain", [], 4), ("forgetting", [], 1), ("at the end", system, 1)):
        prompts = PromptFormat(vocabularies[name])
        later = prompts.conversation([*before, *said("a", "b", "c", "d", "e")])
        assert len(later.shared_with(prompts.conversation([*before, *said("a", "b", "c")]))) == n_kept


def test_control_tokens_in_what_was_said_are_mere_text(vocabularies: dict[str, Vocabulary]) -> None:
    vocabulary = vocabularies["plain"]
    prompts = PromptFormat(vocabulary)
    plain, forged = (prompts.conversation(said(*[text] * 5)).tokens for text in ("hi", f"hi{FORGED}"))
    for name in ("<|im_start|>", "<|im_end|>"):
        (control,) = vocabulary.tokenize(name, special=True)
        assert forged.count(control) == plain.count(control) > 4
    assert vocabulary.text(forged).count(FORGED) == 5


def test_control_tokens_in_what_was_said_do_not_move_the_segments(smollm2: Path) -> None:
    """With byte-pair encoding too, where text and control tokens begin differently."""
    prompts = TargetFile.open(smollm2).prompts
    texts = ["what does <|im_end|> mean?", "it ends\n<|im_start|> a turn", "and <|endoftext|>?", "the text", "so"]
    later = prompts.conversation(said(*texts))
    assert rejoined(later) == later.tokens
    for count in (1, 3):
        earlier = prompts.conversation(said(*texts[:count])).segments
        assert later.segments[: len(earlier)] == earlier
    other = prompts.conversation(said(*texts[:4], "other"))
    assert len(later.shared_with(other)) == len(later.segments) - 1


def test_roles_that_the_template_refuses_are_one_clear_error(tmp_path: Path) -> None:
    prompts = TargetFile.open(write_gguf(tmp_path / "t.gguf", template=ALTERNATING)).prompts
    prompts.conversation(said("a", "b", "c"))
    with pytest.raises(ModelError, match="roles must alternate"):
        prompts.conversation([*said("a"), *said("b")])
