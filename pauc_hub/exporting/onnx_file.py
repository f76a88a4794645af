"""ONNX files: from a traced program, with fewer bits, run by onnxruntime. n images, S side."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.export import ExportedProgram

from pauc_hub.errors import PaucError, UsageError
from pauc_hub.exporting.graph import FEATURES
from pauc_hub.exporting.parity import Outputs
from pauc_hub.exporting.takes import Takes
from pauc_hub.exporting.tracing import reason, silence
from pauc_hub.files.artefact import METADATA_KEY

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""Of the extra `export`; torch's exporter needs the last."""
EXTRA = "pip install 'pauc-hub[export]'"
# protobuf's limit; past it ONNX needs several files.
ONE_FILE = 2**31 - 1


def require_packages() -> None:
    """Raise UsageError where the extra is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX needs {', '.join(missing)}: `{EXTRA}`.")


@dataclass(eq=False)
class OnnxFile:
    """A file in memory."""

    model: Any
    """An onnx.ModelProto."""
    takes: Takes

    def run(self) -> "OnnxSession":
        """Ready to run on the CPU.

        Raises:
            PaucError: onnxruntime does not take the file.
        """
        return OnnxSession(self.model.SerializeToString(), self.takes)

    def finished(self, facts: str) -> bytes:
        """The file's bytes, with JSON facts under METADATA_KEY."""
        self.model.producer_name = "pauc-hub"
        self.model.producer_version = version("pauc-hub")
        entry = self.model.metadata_props.add()
        entry.key = METADATA_KEY
        entry.value = facts
        data: bytes = self.model.SerializeToString(deterministic=True)
        return data


class OnnxSession:
    """Squares to outputs, by onnxruntime."""

    def __init__(self, data: bytes, takes: Takes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # errors only: what it cannot optimise is no news
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise PaucError(
                f"onnxruntime does not take the exported file ({reason(error)}). It was not kept."
            ) from error
        self.takes = takes
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, squares: npt.NDArray[np.uint8]) -> Outputs:
        values = self.session.run(self.names, {self.takes.name: self.takes.feed(squares)})
        return dict(zip(self.names, values, strict=True))


def convert_to_onnx(program: ExportedProgram, takes: Takes, outputs: Sequence[str]) -> OnnxFile:
    """A traced program as ONNX, without the notes that the exporter leaves, which name places of
    this machine.

    Raises:
        PaucError: the exporter lacks an operator, or the weights are too large for one file.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > ONE_FILE:
        raise PaucError(
            f"its weights take {size / 2**30:.1f} GiB, and one ONNX file holds 2. "
            "Use precision=fp16, or torch_export=FILE instead."
        )
    try:
        with silence():
            exported = torch.onnx.export(
                program,
                input_names=[takes.name],
                output_names=list(outputs),
                dynamo=True,
                verbose=False,
            )
            assert exported is not None, "dynamo gives a program"
            model = exported.model_proto
    except Exception as error:
        raise PaucError(
            f"torch cannot write this network as ONNX ({reason(error)}). torch_export=FILE may do."
        ) from error
    return OnnxFile(_with_names(_without_notes(model), takes), takes)


def without_features(model: Any) -> Any:
    """An onnx.ModelProto without the output that marked where the network ends; changes it."""
    kept = [output for output in model.graph.output if output.name != FEATURES]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return model


def _without_notes(model: Any) -> Any:
    graph = model.graph
    for part in (model, graph, *model.functions):
        del part.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _with_names(model: Any, takes: Takes) -> Any:
    """Free sides under their names, where torch numbered them."""
    graph = model.graph
    sides = graph.input[0].type.tensor_type.shape.dim
    names = {
        dim.dim_param: str(name)
        for dim, name in zip(sides, takes.shape, strict=True)
        if dim.HasField("dim_param")
    }
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_param = re.sub(
                    r"\w+", lambda found: names.get(found[0], found[0]), dim.dim_param
                )
    return model
