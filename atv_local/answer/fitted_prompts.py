"""The chat template of a target with the variables that its bundles were trained with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.target import PromptFormat, Target, TemplateWarning
from atv_local.text import one_line

_UNSET = object()


def fitted_prompts(target: Target, generators: Sequence[Generator], given: Mapping[str, Any]) -> PromptFormat:
    """The prompt format of a target; warnings are those of the caller's caller's caller.

    Args:
        target: whose template it is.
        generators: their bundles say which variables they were trained with.
        given: values that come before those.

    Raises:
        ModelError: a chat template that cannot be used.
        UsageError: a variable that is given and that the template does not read, or one that is not given and that the
            bundles were trained with different values of.
    """
    trained = _trained_variables(generators, given)
    prompts = target.prompts
    prompts.check_variables(given)
    try:
        prompts.check_variables(trained)
    except UsageError as error:
        warnings.warn(f"the bundle was trained with another chat template: {error}", TemplateWarning, stacklevel=4)
    prompts = prompts.with_variables({**trained, **given})
    if prompts.thinks and "enable_thinking" not in {**trained, **given}:
        warnings.warn(
            "the chat template begins answers inside a thinking block; set its variable enable_thinking to false "
            "to close it",
            TemplateWarning,
            stacklevel=4,
        )
    return prompts


def _trained_variables(generators: Sequence[Generator], given: Mapping[str, Any]) -> dict[str, Any]:
    variables = [generator.bundle.manifest.template_variables for generator in generators]
    for name in dict.fromkeys(name for one in variables for name in one):
        values = [one.get(name, _UNSET) for one in variables]
        if name not in given and any(value != values[0] for value in values):
            said = ", ".join("not set" if value is _UNSET else one_line(str(value)) for value in values)
            raise UsageError(
                f"the bundles were trained with different values of the chat template's variable {one_line(name)} "
                f"({said}); set it for all with `template_variables=...`"
            )
    return {name: value for one in variables for name, value in one.items()}
