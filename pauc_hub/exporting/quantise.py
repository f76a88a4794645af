"""An ONNX network in 8 bits: static, with ranges measured on images, as QDQ nodes that every
runtime knows.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import PaucError
from pauc_hub.exporting.takes import Takes
from pauc_hub.exporting.tracing import reason, unlogged

# What takes the time; the rest stays in 32 bits.
OPERATORS = ["Conv", "Gemm", "MatMul"]
CALIBRATION_BATCH = 8


def quantise(model: Any, squares: npt.NDArray[np.uint8], takes: Takes, cut: str) -> Any:
    """Weights and activations in 8 bits, up to a tensor of the graph.

    Args:
        model: an onnx.ModelProto in float32.
        squares: (n, S, S, 3) images whose activations give the ranges.
        cut: the output up to which nodes are quantised: the features. Heads are small and need
            their precision.

    Returns:
        A new onnx.ModelProto.

    Raises:
        PaucError: it cannot be done.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Squares(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.starts = iter(range(0, len(squares), CALIBRATION_BATCH))

        def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
            start = next(self.starts, None)
            return (
                None
                if start is None
                else {takes.name: takes.feed(squares[start : start + CALIBRATION_BATCH])}
            )

    before = ancestors(model.graph, cut)
    with tempfile.TemporaryDirectory() as folder, unlogged(logging.WARNING):
        place = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                model,
                place,
                Squares(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # 7 bits of weights: processors without VNNI add two products in 16 bits, and with 8
                # they overflow, to a least cosine of 0.81 instead of 0.9993 (docs/LOG.md)
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=OPERATORS,
                nodes_to_exclude=[
                    node.name for node in model.graph.node if node.name not in before
                ],
            )
            return onnx.load(place)
        except Exception as error:
            raise PaucError(
                f"onnxruntime cannot quantise this network ({reason(error)}). Use precision=fp16."
            ) from error


def ancestors(graph: Any, output: str) -> set[str]:
    """Names of the nodes that a tensor depends on."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = [output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return found
