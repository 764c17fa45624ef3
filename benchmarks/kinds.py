"""Kinds of tasks that `benchmarks.held_out` leaves out of training."""

from __future__ import annotations

KINDS = {
    "pick a word": ("fv_choose_", "fv_alphabetically_"),
    "translate": ("fv_english_", "itv_en_it", "itv_es_en", "itv_fr_en", "itv_it_en"),
    "recall a fact": ("fv_person_", "fv_product_", "itv_location_", "itv_person_", "itv_football_"),
    "letters and sums": ("ii_sum", "ii_diff", "ii_letters_list", "ii_first_word_letter", "ii_second_word_letter"),
    "extract as JSON": ("restaurant8k_json", "wnut17_json", "crossner_json", "snips_json", "e2e_json"),
}
"""What the names of their tasks begin with."""
RELATED = ("fv_choose_", "fv_alphabetically_", "ii_first_word_letter", "ii_second_word_letter")
"""Of these the training tasks have others with inputs of the same form, such as `fv_animal_v_object_3`."""
TRAINED, UNSEEN = "trained on", "unseen_dev"


def kind_of(task: str, group: str) -> str:
    """One of `KINDS`, `UNSEEN` or `TRAINED`."""
    if group == UNSEEN:
        return UNSEEN
    return next((kind for kind, starts in KINDS.items() if task.startswith(starts)), TRAINED)
