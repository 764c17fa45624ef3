"""Query to task vector, in ONNX Runtime. Knows nothing of llama.cpp."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from atv_local.bundle import TOKENIZER, Bundle
from atv_local.errors import BundleError
from atv_local.vectors import TaskVector


class Generator:
    """The small language model of a bundle.

    Args:
        bundle: opened and checked.
        providers: ONNX Runtime execution providers in order of preference; by default CUDA where the installed
            onnxruntime has it, then the CPU.
        n_threads: threads of the CPU provider. They share the cores with llama.cpp, so few is fast.

    Raises:
        BundleError: a graph or tokenizer that cannot be loaded, or of another shape than the manifest says.
    """

    def __init__(self, bundle: Bundle, *, providers: list[str] | None = None, n_threads: int = 1) -> None:
        spec = bundle.manifest
        self.bundle = bundle
        self.shape = (spec.target.n_layer - 1, spec.target.n_embd)
        self._template = spec.generator.query_template
        try:
            self._tokenizer = Tokenizer.from_buffer(bundle.read(TOKENIZER))
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(spec.generator.max_tokens)
            self._session = _session(bundle.read(bundle.graph), _providers(providers), n_threads)
        except BundleError:
            raise
        except Exception as error:  # both libraries raise bare exceptions of their own
            raise BundleError(f"the bundle {bundle.path} cannot be loaded: {error}") from error
        inputs = sorted(node.name for node in self._session.get_inputs())
        if inputs != ["attention_mask", "input_ids"]:
            raise BundleError(f"the graph of {bundle.path} takes {inputs}, not attention_mask and input_ids")
        self("a query")

    def __call__(self, query: str) -> TaskVector:
        """The task vector of one query, float32 [n_layer-1, n_embd]; words past the generator's limit are not read.

        Raises:
            BundleError: the graph fails, or its output has another shape than the manifest says.
        """
        try:
            encoding = self._tokenizer.encode(self._template.replace("{query}", query))
            inputs = {
                "input_ids": np.array([encoding.ids], dtype=np.int64),
                "attention_mask": np.array([encoding.attention_mask], dtype=np.int64),
            }
            output = self._session.run(["task_vector"], inputs)[0]
        except Exception as error:
            raise BundleError(f"the bundle {self.bundle.path} cannot read {query[:40]!r}: {error}") from error
        if output.shape != (1, *self.shape) or output.dtype != np.float32:
            raise BundleError(
                f"the graph of {self.bundle.path} gives {output.dtype} {list(output.shape)}, "
                f"not float32 {[1, *self.shape]}"
            )
        return TaskVector(output[0])


def _session(graph: bytes, providers: list[str], n_threads: int) -> Any:
    """A session over checked bytes only: with no folder to look in, weights in other files are an error."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4  # failures reach the user as exceptions, once
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # llama.cpp needs the cores
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return ort.InferenceSession(graph, options, providers=providers)


def _providers(wanted: list[str] | None) -> list[str]:
    available = ort.get_available_providers()
    wanted = wanted or ["CUDAExecutionProvider", "CPUExecutionProvider"]
    found = [name for name in wanted if name in available]
    if missing := [name for name in wanted if name not in available and name != "CUDAExecutionProvider"]:
        warnings.warn(f"ONNX Runtime has no {', '.join(missing)} here; it has {', '.join(available)}", stacklevel=3)
    return found or ["CPUExecutionProvider"]
