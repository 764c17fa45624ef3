"""Fixtures that several folders share, and which tests need what; every test runs offline."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import pytest
from hypothesis import HealthCheck, settings

from atv_local.answer import Engine
from atv_local.data import trial
from atv_local.generator import Bundle, Generator
from atv_local.generator.first_run import check_runnable
from atv_local.names import embedded_model
from atv_local.target import Target
from atv_local.target.first_load import check_loadable
from tests import tiny

if TYPE_CHECKING:
    from atv_train.job import TrainingJob

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("ATV_MODEL", None)
os.environ.pop("ATV_BUNDLE", None)
os.environ["TOKENIZERS_PARALLELISM"] = "false"
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and its children, would ignore it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for models this small, threads only wait for each other
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # nothing is timed
settings.register_profile("fast", settings.get_profile("tests"), max_examples=15)

HERE = Path(__file__).parent
PLACES = {
    "train": ["train", "export", "hostile/test_checkpoints.py", "eval/lm_eval"],
    "browser": ["page"],
    "ray": ["plugins/test_ray.py"],
    "shown": [f"docs/test_{name}.py" for name in ("examples", "python_blocks", "readme", "shown_output", "tutorial")],
    "wheel": ["test_wheel.py"],
    "processes": ["cli/test_doctor.py", "serve/test_process.py"],
    "attack": [
        "hostile",
        "runtime/test_faults.py",
        "runtime/test_threads.py",
        "serve/test_attack.py",
        "serve/test_guard.py",
        "serve/test_one_client.py",
    ],
}
"""Files and folders whose tests all need what the marker says, and may import it."""
FIXTURES = {
    "trained_checkpoint": "train",
    "tiny_backbone": "train",
    "smollm2": "model",
    "site": "shown",
}
"""What a test needs that uses such a fixture."""
SLOW = {*PLACES, "model"}
"""Markers of what `--fast` leaves out."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out what is marked as one of SLOW")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if config.getoption("--fast") else "tests")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker and hasattr(os, "sched_setaffinity"):  # threads of llama.cpp that share a core would spin for each other
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker) % len(cores)]})


@cache
def _needs(path: Path) -> str | None:
    """The marker of a place."""
    return next((name for name, places in PLACES.items() if any(path.is_relative_to(HERE / p) for p in places)), None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Under `--fast` do not even import what is left out."""
    return True if config.getoption("--fast") and _needs(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        names = {FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in FIXTURES}
        for name in names | ({_needs(item.path)} - {None}):
            item.add_marker(str(name))
    if config.getoption("--fast"):
        if "torch" in sys.modules:
            raise pytest.UsageError("a test file outside PLACES in tests/conftest.py imports torch")
        left_out = [item for item in items if any(map(item.get_closest_marker, SLOW))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _no_torch_if_fast(pytestconfig: pytest.Config) -> Iterator[None]:
    """The runtime, the server and most verbs must do without it."""
    before = "torch" in sys.modules
    yield
    if pytestconfig.getoption("--fast") and not before:
        assert "torch" not in sys.modules, "this test has imported torch; mark it `train` if it must"


@pytest.fixture(scope="session", autouse=True)
def _no_trials() -> Iterator[None]:
    """Files of tests are our own; a process that tries each would only take time. tests/hostile has the trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atv_local.target.model.check_loadable", lambda _path: None)
        patch.setattr("atv_local.generator.generator.check_runnable", lambda _bundle: None)
        yield


def _save_good_verdict(check: Callable[[], None]) -> None:
    """For the commands that tests run in processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "_try", lambda *_: None)
        check()


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random target: 4 layers of width 64."""
    path = tiny.write_gguf(tmp_path_factory.mktemp("target") / "tiny.gguf")
    _save_good_verdict(lambda: check_loadable(path))
    return path


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows that a tiny model can learn: a fruit is `a`, a beast is `b`."""
    return tiny.write_rows(tmp_path_factory.mktemp("rows") / "kinds.jsonl")


@pytest.fixture(scope="session")
def tiny_vectors(tiny_gguf: Path) -> np.ndarray:
    """Of the words in those rows, each under which the target says its letter; float32 [n_words, 3, 64]."""
    return tiny.fit(tiny_gguf)


@pytest.fixture(scope="session")
def tiny_bundle(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, tiny_rows: Path, tiny_vectors: np.ndarray
) -> Path:
    """A bundle made by hand, with an int8 and a float32 graph, that answers those rows."""
    bundle = tiny.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", tiny_gguf, tiny_rows, tiny_vectors)
    _save_good_verdict(lambda: check_runnable(Bundle(bundle)))
    return bundle


@pytest.fixture(scope="session")
def gated_bundle(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, tiny_rows: Path, tiny_vectors: np.ndarray
) -> Path:
    """The same with a gate, which lets the words of those rows pass."""
    folder = tmp_path_factory.mktemp("gated") / "tiny"
    bundle = tiny.write_bundle(folder, tiny_gguf, tiny_rows, tiny_vectors, ["int8"], gated=True)
    _save_good_verdict(lambda: check_runnable(Bundle(bundle)))
    return bundle


@pytest.fixture(scope="session")
def told_bundle(tmp_path_factory: pytest.TempPathFactory, gated_bundle: Path) -> Path:
    """A bundle with that gate and two tasks that have instructions."""
    tasks = {"sort": "Sort the word.", "name": "Name the kind."}
    return tiny.write_told(tmp_path_factory.mktemp("told") / "two", gated_bundle, tasks)


@pytest.fixture(scope="session")
def only_told_bundle(tmp_path_factory: pytest.TempPathFactory, gated_bundle: Path) -> Path:
    """The same with one of the tasks."""
    return tiny.write_told(tmp_path_factory.mktemp("told") / "one", gated_bundle, {"sort": "Sort the word."})


@pytest.fixture(scope="session")
def fruits_bundle(tmp_path_factory: pytest.TempPathFactory, gated_bundle: Path) -> Path:
    """A bundle whose gate lets the fruits of those rows pass."""
    return tiny.write_variant(tmp_path_factory.mktemp("gated") / "fruits", gated_bundle, tiny.FRUITS, "fruits")


@pytest.fixture(scope="session")
def beasts_bundle(tmp_path_factory: pytest.TempPathFactory, gated_bundle: Path) -> Path:
    """Another for the beasts, which recommends other layers."""
    folder = tmp_path_factory.mktemp("gated") / "beasts"
    return tiny.write_variant(folder, gated_bundle, tiny.BEASTS, "beasts", layers=(1, 2))


@pytest.fixture(scope="session")
def tiny_generator(tiny_bundle: Path) -> Generator:
    """Its generator in ONNX Runtime."""
    return Generator(Bundle(tiny_bundle))


@pytest.fixture
def target(tiny_gguf: Path) -> Target:
    """A fresh tiny target in llama.cpp."""
    return Target(tiny_gguf, n_threads=1)


@pytest.fixture
def engine(target: Target, tiny_generator: Generator) -> Engine:
    """The tiny target with its generator."""
    return Engine(target, tiny_generator)


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration folder of a user who has set nothing, and whom Ollama gave nothing; also in child processes."""
    folder = tmp_path / "config" / "atv-local"
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.parent))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The embedded default: SmolLM2-135M-Instruct, quantised."""
    return embedded_model()


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random backbone of width 32."""
    from tests.tiny.backbone import write_backbone

    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny-bert")


@pytest.fixture(scope="session")
def trained_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path
) -> Path:
    """A checkpoint trained until it knows its rows, by the code users run."""
    from atv_train.job import TrainingJob
    from atv_train.trainer.training_settings import TrainingSettings
    from atv_train.training_run import run_training

    output = tmp_path_factory.mktemp("checkpoint") / "tiny"
    settings = TrainingSettings(epochs=20, batch_size=8, learning_rate=2e-2, backbone_learning_rate=2e-3)
    job = TrainingJob(
        tiny_gguf, [tiny_rows], hold_out=False, backbone=str(tiny_backbone), max_query_tokens=64, settings=settings
    )
    run_training(job, output)
    return output


@pytest.fixture(scope="session")
def trained_bundle(tmp_path_factory: pytest.TempPathFactory, trained_checkpoint: Path) -> Path:
    """That checkpoint, exported with both graphs."""
    from atv_export.export_bundle import export

    output = tmp_path_factory.mktemp("trained") / "tiny"
    export(trained_checkpoint, output)
    return output


@pytest.fixture
def job(tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path) -> TrainingJob:
    """Three epochs on those rows, with a tenth of them held out."""
    from atv_train.job import TrainingJob
    from atv_train.trainer.training_settings import TrainingSettings

    settings = TrainingSettings(epochs=3, batch_size=8, learning_rate=1e-2)
    return TrainingJob(tiny_gguf, [tiny_rows], backbone=str(tiny_backbone), max_query_tokens=64, settings=settings)


@pytest.fixture
def unrelated(tmp_path: Path) -> Path:
    """Queries outside the task."""
    file = tmp_path / "unrelated.txt"
    file.write_text("".join(f"say {n}\n" for n in range(24)))
    return file
