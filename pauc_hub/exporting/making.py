"""From a model and what is wanted of it to a file in memory, of one format or the other."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pauc_hub.exporting.graph import EMBEDDING, FEATURES, PROJECTION, Graph, Normalisation
from pauc_hub.exporting.heads import Answers
from pauc_hub.exporting.onnx_file import OnnxFile, convert_to_onnx, without_features
from pauc_hub.exporting.quantise import quantise
from pauc_hub.exporting.takes import Takes
from pauc_hub.exporting.torch_file import TorchFile
from pauc_hub.exporting.tracing import EXAMPLE_BATCH, trace
from pauc_hub.inference.model import Model
from pauc_hub.models.timm_network import PooledFeatures, build_timm_network

ONNX, TORCH_EXPORT = "onnx", "torch-export"


@dataclass(frozen=True, eq=False)
class WantedExport:
    """What is to be made."""

    model: Model
    takes: Takes
    answers: Answers
    space: str
    """Of the embedding."""
    precision: str
    kind: str
    """ONNX or TORCH_EXPORT."""

    @property
    def spaces(self) -> set[str]:
        """That the file works out."""
        return {self.space, *self.answers.spaces}


def make(wanted: WantedExport, calibration: npt.NDArray[np.uint8] | None) -> OnnxFile | TorchFile:
    """Trace the network and write it in its format.

    Args:
        calibration: (n, S, S, 3) images for int8; None for other precisions.

    Raises:
        UsageError: the network takes one size only, and others were asked for.
        PaucError: it cannot be exported.
    """
    graph = _graph(wanted)
    takes = wanted.takes
    size = takes.preprocessing.size
    # of noise: constant pixels could hide that something is not computed
    square = torch.randint(0, 256, (EXAMPLE_BATCH, size, size, 3), dtype=torch.uint8).numpy()
    program = trace(graph, torch.from_numpy(takes.feed(square)), dynamic_size=takes.dynamic_size)
    if wanted.kind == TORCH_EXPORT:
        return TorchFile(program, takes, graph.names)
    file = convert_to_onnx(program, takes, graph.names)
    if calibration is None:
        return file
    cut = FEATURES if FEATURES in graph.names else EMBEDDING
    return OnnxFile(without_features(quantise(file.model, calibration, takes, cut)), takes)


def _graph(wanted: WantedExport) -> Graph:
    """timm's own network, not the quick one that embeds: that one asks for operators of this
    processor.
    """
    model = wanted.model
    size = model.preprocessing.size
    network = build_timm_network(model.folder, size if size != model.folder.image_size else None)
    # in the order of memory that torch prefers on CPUs, the exporter writes strides into the graph
    network = network.to(memory_format=torch.contiguous_format)
    return Graph(
        PooledFeatures(network),
        model.projector if PROJECTION in wanted.spaces else None,
        Normalisation(model.preprocessing) if wanted.takes.uint8 else None,
        wanted.answers.heads(),
        space=wanted.space,
        half=wanted.precision == "fp16",
        tells_features=wanted.precision == "int8",
    ).eval()
