"""The model card, from a spec alone."""

from __future__ import annotations

from pathlib import Path

from atv_export.model_card import model_card
from atv_local.generator import OUTSIDE_STEERED, VALID_RECALL, Bundle


def test_the_card_says_which_queries_are_steered(gated_bundle: Path) -> None:
    manifest = Bundle(gated_bundle).manifest
    card = model_card("mine", manifest, {}, {}, None)
    assert "| kinds | 30 | 0.900 |" in card
    assert "`--gate off` steers every query" in card
    assert "measured in training" not in card
    metrics = {VALID_RECALL: 0.975, OUTSIDE_STEERED: 0.025, "valid_loss": 0.5}
    measured = manifest.model_copy(update={"provenance": manifest.provenance.model_copy(update={"metrics": metrics})})
    card = model_card("mine", measured, {}, {}, None)
    assert "97.5% of the validation rows and 2.5% of the unrelated queries" in card
    assert "- valid_loss: 0.5" in card
    assert f"- {VALID_RECALL}" not in card


def test_the_card_of_a_bundle_without_a_gate_says_so(tiny_bundle: Path) -> None:
    assert "no gate: it steers every query" in model_card("mine", Bundle(tiny_bundle).manifest, {}, {}, None)
