"""Reading a checkpoint of the paper's authors: a .pt with a GPT-2 and a projection. Nothing in it is run.

Rows of the projection go layer by layer from layer 0, the output of the first block, which llama.cpp cannot steer. They
are separated here; `layer0.py` handles them.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from atv_export.paper_checkpoint.paper_options import PaperOptions
from atv_local.errors import BundleError, ModelError, UsageError, first_line
from atv_local.generator import FORMAT_VERSION, GeneratorSpec, InjectionSpec, Provenance, Spec
from atv_local.target import TargetFile
from atv_train import check_config, check_present, first_sentence
from atv_train.vector_sources import GeneratorModule, load_tokenizer, vocabulary_size, without_pooler

SCALE = 0.001
"""The authors' `weight_fv`, lambda in the paper."""
QUERY_TEMPLATE = "Q: {query} \n A: "
"""The input of their generator in training."""
BACKBONE, PROJECTION = "gpt2_model_state_dict", "projection_layer_state_dict"
_HEAD = 64  # width of an attention head in every GPT-2; a state dict does not have it
_NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", "position_ids")  # what older versions of transformers saved too
_MAX_BYTES, _MAX_TOKENS = 8 << 30, 1024
_MAX_POSITIONS = 8192  # a GPT-2 has a mask of their square


@dataclass(frozen=True)
class PaperCheckpoint:
    """A generator of layers 1 and up, and the expansion's rows for layer 0.

    `weight` is float32 [n_embd, d_s], `bias` float32 [n_embd]; both without the scale.
    """

    spec: Spec
    generator: GeneratorModule
    tokenizer: PreTrainedTokenizerFast
    weight: Tensor
    bias: Tensor


def read_paper_checkpoint(path: Path, target_file: TargetFile, options: PaperOptions) -> PaperCheckpoint:
    """Read the checkpoint at `path` for a target.

    Raises:
        NotFoundError: the backbone is a path where there is nothing.
        BundleError: not such a file, damaged, or made for a target of another shape.
        ModelError: a tokenizer that cannot be read.
    """
    target, backbone, pooling = target_file.spec, options.backbone, options.pooling
    check_present(backbone, "backbone")
    weights, projection = _states(path)
    weight, bias = projection.get("weight"), projection.get("bias")
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise BundleError(f"{path}: {PROJECTION} has {sorted(projection)}, not the weight and bias of one linear map")
    if len(bias) != target.n_layer * target.n_embd:
        raise BundleError(
            f"{path} has {len(bias)} values for a vector, but {target.name} has "
            f"{target.n_layer} layers of width {target.n_embd}: it was made for another target"
        )
    tokenizer = _tokenizer(backbone)
    read_backbone = _backbone(path, weights, backbone)
    width, words = read_backbone.config.hidden_size, vocabulary_size(read_backbone)
    if width != weight.shape[1]:
        raise BundleError(f"{path}: the backbone has width {width}, the projection reads {weight.shape[1]}")
    if len(tokenizer) > words:
        raise ModelError(f"the tokenizer of {backbone} has {len(tokenizer)} words, and the backbone in {path} {words}")
    positions_read = int(getattr(read_backbone.config, "max_position_embeddings", None) or _MAX_TOKENS)
    generator = GeneratorModule(read_backbone, target.n_layer - 1, target.n_embd, pooling, SCALE)
    generator.expansion.load_state_dict({"weight": weight[target.n_embd :], "bias": bias[target.n_embd :]})
    spec = Spec(
        format_version=FORMAT_VERSION,
        target=target,
        generator=GeneratorSpec(
            backbone=Path(backbone).name if Path(backbone).is_dir() else backbone,
            pooling=pooling,
            query_template=QUERY_TEMPLATE,
            max_tokens=max(2, min(positions_read, int(tokenizer.model_max_length), _MAX_TOKENS)),
        ),
        injection=InjectionSpec(positions=options.positions, scale=SCALE),
        provenance=Provenance(versions={"checkpoint": "of the paper's authors"}),
    )
    return PaperCheckpoint(spec, generator.eval(), tokenizer, weight[: target.n_embd], bias[: target.n_embd])


def _states(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Both state dicts in float32, every tensor checked to be one."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except OSError as error:
        raise BundleError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged zip raises various errors
        raise BundleError(f"{path} is not a checkpoint of PyTorch 1.6 or later, which is a zip: {error}") from error
    if unpacked > _MAX_BYTES or unpacked > 2 * size:  # PyTorch stores tensors as they are
        raise BundleError(f"the checkpoint {path} is refused: it unpacks to {unpacked} bytes")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a pickle that would run code, or any damage
        reason = first_line(error)
        raise BundleError(f"the checkpoint {path} is refused: {reason}") from error
    states = []
    held = 0
    for name in (BACKBONE, PROJECTION):
        state = content.get(name) if isinstance(content, dict) else None
        if not isinstance(state, dict) or not state:
            raise BundleError(f"{path} has no {name}; it is not a checkpoint of the paper's authors")
        tensors = {str(key).removeprefix("module."): _tensor(path, str(key), value) for key, value in state.items()}
        held += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        states.append(tensors)
    if held > unpacked:  # many names for one storage
        raise BundleError(f"{path} has more values than the file holds")
    states = [{name: t.float() if t.is_floating_point() else t for name, t in tensors.items()} for tensors in states]
    return states[0], states[1]


def _tensor(path: Path, name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
        raise BundleError(f"{path}: {name} is not a tensor")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():  # seen larger through a stride of 0
        raise BundleError(f"{path}: {name} has more values than the file holds")
    if not value.is_floating_point():
        if name.endswith(_NOT_WEIGHTS):
            return value
        raise BundleError(f"{path}: {name} has values of {value.dtype}, which are not weights")
    if not bool(value.isfinite().all()):
        raise BundleError(f"{path}: {name} has values that are NaN or infinite")
    return value


def _tokenizer(backbone: str) -> PreTrainedTokenizerFast:
    try:
        return load_tokenizer(backbone)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot load the tokenizer of {backbone}: {first_sentence(error)}; name a folder with `backbone=...`"
        ) from error


def _backbone(path: Path, weights: dict[str, Tensor], backbone: str) -> PreTrainedModel:
    """The backbone with its weights: of the shape that they have if they are a GPT-2's, else of its config."""
    try:
        if "wte.weight" in weights:
            vocabulary, width = weights["wte.weight"].shape
            layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("h."))
            positions = weights["wpe.weight"].shape[0]
            if layers > len(weights) or positions > _MAX_POSITIONS:
                raise ValueError(f"{layers} layers and {positions} positions")
            for name in (f"h.{n}.ln_1.weight" for n in range(layers)):
                if name not in weights:
                    raise ValueError(f"{name} is missing")
            config = AutoConfig.for_model(
                "gpt2",
                vocab_size=vocabulary,
                n_embd=width,
                n_layer=layers,
                n_head=max(1, width // _HEAD),
                n_positions=positions,
            )
        else:
            check_config(backbone)
            config = AutoConfig.from_pretrained(backbone, trust_remote_code=False)
        with torch.device("meta"):
            shapes = {
                name: tensor.shape
                for name, tensor in without_pooler(AutoModel.from_config(config)).state_dict().items()
            }
        for name, shape in shapes.items():
            if name not in weights:
                raise ValueError(f"{name} is missing; name the backbone it was trained with")
            if weights[name].shape != shape:
                raise ValueError(f"{name} has shape {list(weights[name].shape)}, not {list(shape)}")
        model = without_pooler(AutoModel.from_config(config, trust_remote_code=False))
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    except Exception as error:  # the libraries raise various errors
        raise BundleError(f"{path}: the backbone cannot be made: {first_sentence(error)}") from error
    unknown = [name for name in unknown if not name.endswith(_NOT_WEIGHTS) and not name.startswith("pooler.")]
    if unknown:
        raise UsageError(
            f"{path}: the backbone has {unknown[0]}, which {backbone} does not; name what it was trained with"
        )
    return model.eval()
