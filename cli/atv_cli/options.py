"""Options that several verbs take, each declared once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from atv_cli.completion import BUNDLE_NAME, MODEL_NAME, complete_gate
from atv_cli.help_pages import Panel
from atv_local.generator import Precision, Provider
from atv_local.target import DEFAULT_MAX_TOKENS, DEFAULT_TOP_K, DEFAULT_TOP_P
from atv_local.vectors import Positions, parse_gate, parse_layers

if TYPE_CHECKING:
    from atv_local.target import Sampling


ModelOption = Annotated[
    str | None,
    Panel.MODEL.option(
        "-m",
        "--model",
        help="Use this target model: a GGUF file, hf:user/repo[:quant], ollama:name or an alias.",
        show_default="ATV_MODEL, then the config file, then embedded",
        **MODEL_NAME,
    ),
]
BundleOption = Annotated[
    str | None,
    Panel.MODEL.option(
        "-g",
        "--bundle",
        help="Use this bundle: a folder, a zip file, hf:user/repo or an alias.",
        show_default="ATV_BUNDLE, then the config file, then embedded",
        **BUNDLE_NAME,
    ),
]
BundlesOption = Annotated[
    list[str] | None,
    Panel.MODEL.option(
        "-g",
        "--bundle",
        help="Use this bundle: a folder, a zip file, hf:user/repo or an alias; repeatable: each query goes to the "
        "bundle whose gate accepts it best.",
        show_default="ATV_BUNDLE, then the config file, then embedded",
        **BUNDLE_NAME,
    ),
]
OffOption = Annotated[
    bool,
    Panel.STEERING.option(
        "--off",
        help="Turn steering off, whatever other steering is given: answer with the base model and load no bundle.",
    ),
]
Column = Annotated[
    list[str] | None,
    Panel.INPUT.option(
        "--column",
        metavar="PART=NAME",
        help="Read a part of each row from the column NAME: input=question; choices= leaves it out; repeatable.",
    ),
]
SkipBadRows = Annotated[
    bool,
    Panel.INPUT.option("--skip-bad-rows", help="Go on without rows that cannot be read, and name them."),
]


def queries_file(purpose: str) -> Any:
    """The option `-f` of a verb that reads queries; `purpose` is what it does with "the queries of this file"."""
    help_text = f'{purpose} the queries of this file: "input" in JSON or CSV, or one per line in .txt.'
    return Panel.INPUT.option("-f", "--file", metavar="FILE", help=help_text)


Unrelated = Annotated[
    Path | None,
    Panel.MEASURING.option(
        "--unrelated",
        "--outside",
        metavar="FILE",
        help="Measure harm on the queries of this file, one per line; they should belong to none of the tasks.",
        show_default="packaged queries",
    ),
]


def template_variable(default: str) -> Any:
    """The option `--template-variable`; `default` is which variables are set without it."""
    return Panel.MODEL.option(
        "--template-variable",
        "--chat-template-kwargs",
        metavar="NAME=VALUE",
        help="Set a variable of the chat template, such as enable_thinking=false; also a JSON object; repeatable.",
        show_default=default,
    )


AsJson = Annotated[bool, Panel.OUTPUT.option("--json", help="Print the result as one JSON value.")]
Strength = Annotated[
    float | None,
    Panel.STEERING.option(
        "--strength",
        metavar="FLOAT",
        help="Multiply the task vector by this factor; 0 is the base model.",
        show_default="the bundle's",
    ),
]
Layers = Annotated[
    str | None,
    Panel.STEERING.option(
        "--layers",
        metavar="A-B",
        help="Steer only these layers, such as 4-20.",
        show_default="the bundle's",
    ),
]
POSITIONS_HELP = "Steer all tokens, only the last prompt token (last), or that token and the answer (decode)."
"""Help text of `--positions`, in the order of `Positions`."""


@dataclass(frozen=True)
class SteeringOptions:
    """How to steer, where that differs from the bundle's defaults."""

    strength: Strength = None
    layers: Layers = None
    positions: Annotated[
        Positions | None, Panel.STEERING.option("--positions", help=POSITIONS_HELP, show_default="the bundle's")
    ] = None
    gate: Annotated[
        str | None,
        Panel.STEERING.option(
            "--gate",
            metavar="auto|off|X",
            help="Steer queries whose score as part of the bundle's tasks, 0 to 1, is at least X; auto is 0.5, off 0.",
            show_default="auto",
            autocompletion=complete_gate,
        ),
    ] = None

    def changes(self) -> dict[str, Any]:
        """The fields of `Steering` to replace."""
        layers = None if self.layers is None else parse_layers(self.layers)
        gate = None if self.gate is None else parse_gate(self.gate)
        values = {"strength": self.strength, "layers": layers, "positions": self.positions, "gate": gate}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class TaskOptions:
    """What a query asks, in words, where the query itself does not say it."""

    task: Annotated[
        str | None,
        Panel.INPUT.option(
            "--task",
            metavar="NAME",
            help="Put the instruction of this task of the bundle before the query; steer unless --gate says otherwise.",
            show_default="the only task's, if the gate lets the query pass",
        ),
    ] = None
    instruction: Annotated[
        str | None,
        Panel.INPUT.option(
            "--instruction",
            metavar="TEXT",
            help="Put this instruction before the query, and --choices after it; a bundle trained with instructions "
            "steers then, unless --gate says otherwise.",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Both, as `Engine.answer` takes them."""
        return asdict(self)


@dataclass(frozen=True)
class ControlVectorOptions:
    """Control vectors to steer with, beside a bundle or alone."""

    control_vector: Annotated[
        list[Path] | None,
        Panel.STEERING.option(
            "--control-vector",
            metavar="FILE,...",
            help="Steer with this control-vector GGUF, in addition to the bundle if -g is given; repeatable.",
        ),
    ] = None
    control_vector_scaled: Annotated[
        list[str] | None,
        Panel.STEERING.option(
            "--control-vector-scaled",
            metavar="FILE:SCALE,...",
            help="Steer with this control-vector GGUF, multiplied by SCALE; repeatable.",
        ),
    ] = None

    def files(self) -> list[tuple[Path, float]]:
        """The control-vector files, each with the factor it is multiplied by."""
        from atv_local.vectors import parse_scaled_file, split_files

        files = [Path(file) for given in self.control_vector or [] for file in split_files(str(given))]
        scaled = [file for given in self.control_vector_scaled or [] for file in split_files(given)]
        return [(path, 1.0) for path in files] + [parse_scaled_file(text) for text in scaled]


@dataclass(frozen=True)
class SamplingOptions:
    """How an answer is written."""

    max_tokens: Annotated[
        int,
        Panel.SAMPLING.option(
            "-n",
            "--max-tokens",
            metavar="N",
            help="Stop each answer after this many tokens; -1 for no limit.",
        ),
    ] = DEFAULT_MAX_TOKENS
    temperature: Annotated[
        float,
        Panel.SAMPLING.option(
            "--temperature",
            "--temp",
            metavar="FLOAT",
            help="Sample at this temperature; 0 always takes the most likely token.",
        ),
    ] = 0.0
    top_p: Annotated[
        float,
        Panel.SAMPLING.option(
            "--top-p",
            metavar="FLOAT",
            help="Sample from the most likely tokens that add up to this probability; 1 keeps all tokens.",
        ),
    ] = DEFAULT_TOP_P
    top_k: Annotated[
        int,
        Panel.SAMPLING.option(
            "--top-k",
            metavar="N",
            help="Sample from this many of the most likely tokens; 0 keeps all.",
        ),
    ] = DEFAULT_TOP_K
    seed: Annotated[
        int | None,
        Panel.SAMPLING.option(
            "--seed",
            metavar="N",
            help="Sample with this seed, so that the same call gives the same answer.",
            show_default="random",
        ),
    ] = None
    system: Annotated[
        str | None, Panel.SAMPLING.option("-s", "--system", metavar="TEXT", help="Set the system message.")
    ] = None

    def sampling(self) -> Sampling:
        """The settings of the sampler.

        Raises:
            UsageError: a value that is out of range.
        """
        from atv_local.target import Sampling

        return Sampling(self.temperature, self.top_p, self.top_k, self.seed)

    def arguments(self) -> dict[str, Any]:
        """All of them, as `Engine.stream` and `Conversation` take them."""
        return {"sampling": self.sampling(), "max_tokens": self.max_tokens, "system": self.system}


@dataclass(frozen=True)
class RowSamplingOptions(SamplingOptions):
    """Sampling for many rows, each with its own seed."""

    seed: Annotated[
        int,
        Panel.SAMPLING.option(
            "--seed", metavar="N", help="Sample each row with a seed made from this number and the row's line number."
        ),
    ] = 0


@dataclass(frozen=True)
class TargetOptions:
    """How llama.cpp runs the target, and where the generator runs. The fields are parameters of `load`."""

    n_ctx: Annotated[
        int | None,
        Panel.PERFORMANCE.option(
            "-c",
            "--n-ctx",
            "--ctx-size",
            metavar="N",
            min=1,
            help="Set the context size in tokens; llama.cpp may round it up.",
            show_default="2048",
        ),
    ] = None
    n_threads: Annotated[
        int | None,
        Panel.PERFORMANCE.option(
            "-t",
            "--n-threads",
            "--threads",
            metavar="N",
            min=1,
            help="Use this many CPU threads.",
            show_default="all cores",
        ),
    ] = None
    n_gpu_layers: Annotated[
        int,
        Panel.PERFORMANCE.option(
            "-ngl",
            "--n-gpu-layers",
            "--gpu-layers",
            metavar="N",
            help="Offload this many layers to the GPU; -1 offloads all.",
        ),
    ] = -1
    provider: Annotated[
        Provider | None,
        Panel.PERFORMANCE.option(
            "--provider",
            help="Run the generator with this ONNX Runtime execution provider.",
            show_default="the first that works",
        ),
    ] = None


@dataclass(frozen=True)
class EngineOptions(TargetOptions):
    """How target and generator run. The fields are parameters of `load`."""

    precision: Annotated[
        Precision | None,
        Panel.PERFORMANCE.option(
            "--precision",
            help="Run the bundle's graph of this precision.",
            show_default="chosen for the provider",
        ),
    ] = None
    template_variable: Annotated[list[str] | None, template_variable("the bundle's")] = None

    def arguments(self) -> dict[str, Any]:
        """All of them, as `load` takes them."""
        from atv_local.data import parse_template_variables

        arguments = asdict(self)
        return arguments | {"template_variables": parse_template_variables(arguments.pop("template_variable") or ())}
