"""Probes that `doctor` runs in a separate process: native libraries, a model, a bundle, and steering."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from atv_local.answer import Engine, Event
    from atv_local.vectors import Steering

_QUERY = "How do I keep my feet dry in the rain?"


@dataclass(frozen=True)
class SteeringEffect:
    """How steering changed the logits after a prompt, and the times of one query."""

    source: str
    """What made the vector: `generator` or `random vector`."""
    exact: bool
    """Whether strength 0 gives the base model's logits bit for bit, after a steered query."""
    moved: bool
    """Whether strength 1 changes them at all."""
    kl: float
    """KL(base || strength 1), in nats."""
    tokens: tuple[str, str]
    """The most likely one without and with steering."""
    generator_ms: float
    first_token_ms: float


def llama_cpp() -> str:
    """Version, build flags, and whether layers can go to a GPU."""
    import llama_cpp as lib

    if not hasattr(lib, "llama_set_adapter_cvec"):
        raise RuntimeError(f"version {lib.__version__} has no llama_set_adapter_cvec, so it cannot steer")
    flags = " ".join(lib.llama_print_system_info().decode("utf-8", "replace").split())
    offload = "GPU offload" if lib.llama_supports_gpu_offload() else "no GPU offload in this build"
    return f"{lib.__version__}, {offload}; {flags.strip(' |')}"


def onnxruntime() -> str:
    """Version and execution providers."""
    import onnxruntime as ort

    from atv_local.generator import available

    return f"{ort.__version__}, providers {', '.join(available())}"


def model(path: Path) -> str:
    """Sizes of a model; its weights are not loaded."""
    from atv_local.target import Model

    opened = Model(path, vocab_only=True)
    size = path.stat().st_size / 1e6
    kind = f"{opened.architecture} {opened.quantisation}".strip()
    return f"{path.name}: {kind}, {size:.0f} MB, {opened.n_layer} layers of width {opened.n_embd}"


def chat_template(path: Path) -> str:
    """How the model's chat template takes what is said."""
    from atv_local.target import TargetFile

    return TargetFile.open(path).prompts.summary()


def bundle(path: Path) -> str:
    """Id and target of a bundle; all of its files are verified."""
    from atv_local.generator import Bundle

    opened = Bundle(path)
    return f"{path.name}: id {opened.id}, for {opened.manifest.target.name}, graphs {', '.join(opened.graphs)}"


def steering(path: Path, generator: Path | None) -> SteeringEffect:
    """Answer one query without, with, and again without steering.

    Args:
        path: the target.
        generator: a bundle; by default the demo bundle if it fits the target, else a random vector is used.
    """
    import warnings
    from dataclasses import replace

    import numpy as np

    from atv_local.target import TemplateWarning, kl_divergence, logprobs
    from atv_local.vectors import OFF

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TemplateWarning)  # another check says it
        engine, source = _engine(path, generator)
    base, _ = _first(engine, OFF)
    forced = replace(engine.steering, strength=1.0, gate=0.0)  # the query may belong to no task
    steered, _ = _first(engine, forced)
    _, event = _first(engine, forced)  # timed once everything is warm
    again, _ = _first(engine, replace(engine.steering, strength=0.0))
    piece = engine.target.vocabulary.piece
    tokens = [piece(int(logits.argmax())).decode("utf-8", "replace") for logits in (base, steered)]
    return SteeringEffect(
        source=source,
        exact=np.array_equal(base, again),
        moved=not np.array_equal(base, steered),
        kl=float(kl_divergence(logprobs(base), logprobs(steered))),
        tokens=(tokens[0], tokens[1]),
        generator_ms=event.timings_ms.generator,
        first_token_ms=event.timings_ms.first_token,
    )


def _engine(path: Path, generator: Path | None) -> tuple[Engine, str]:
    from atv_local.answer import Engine
    from atv_local.errors import ModelError
    from atv_local.generator import Bundle, Generator
    from atv_local.names import embedded_bundle
    from atv_local.target import Target
    from atv_local.vectors import Steering, random_vector

    target = Target(path)
    try:
        opened = Bundle(generator or embedded_bundle())
    except ModelError:
        opened = None
    if opened is not None and (generator or not opened.manifest.target.mismatch(target.spec)):
        return Engine(target, Generator(opened)), "generator"
    static = random_vector(target.n_rows, target.n_embd)
    return Engine(target, control_vectors=[static], steering=Steering()), "random vector"


def _first(engine: Engine, steering: Steering) -> tuple[NDArray[np.float32], Event]:
    """Logits after the prompt, from an empty cache, and the first event of the answer."""
    engine.target.reset()
    stream = engine.stream(_QUERY, steering=steering, max_tokens=1)
    event = next(stream)
    logits = engine.target.logits().copy()
    stream.close()
    return logits, event
