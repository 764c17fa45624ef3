"""lm-evaluation-harness as an ordinary client of the server."""

from __future__ import annotations

import pytest
from lm_eval.models.openai_completions import LocalCompletionsAPI

from atv_eval.lm_eval.harness_model import AtvLocal
from atv_local.names import embedded_model
from atv_serve.server import Server, ServerOptions
from tests.eval.lm_eval.token_by_token import asked
from tests.serve.listening import listening


def test_lm_eval_gets_the_same_numbers_as_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own client for servers of completions, which finds our tokenizer by itself."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    contexts = ["The capital of France is", "Water boils at a hundred degrees", "Two and two are"]
    pairs = [(context, ending) for context in contexts for ending in (" Paris", " Celsius, at sea level", " four", "!")]
    scored_requests = asked("loglikelihood", *pairs)
    free = asked("generate_until", *((context, {"until": ["\n"], "max_gen_toks": 8}) for context in contexts))
    ours = AtvLocal(off=True)
    with listening(Server(embedded_model(), {}, ServerOptions(parallel=1))) as url:
        theirs = LocalCompletionsAPI(base_url=f"{url}/v1/completions", model="base", num_concurrent=1, batch_size=2)
        assert theirs.tokenizer_backend == "remote"
        scored = theirs.loglikelihood(scored_requests, disable_tqdm=True)
        written = theirs.generate_until(free, disable_tqdm=True)
    for (total, greedy), (expected, expected_greedy), pair in zip(
        scored, ours.loglikelihood(scored_requests, disable_tqdm=True), pairs, strict=True
    ):
        assert total == pytest.approx(expected, abs=0.1), pair
        assert greedy == expected_greedy, pair
    assert scored[0][0] > scored[1][0]
    assert written == ours.generate_until(free, disable_tqdm=True)
