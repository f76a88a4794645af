"""What parity must see: the graph is the good one, and one number in it is wrong."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pauc_hub.errors import PaucError
from pauc_hub.exporting import making
from pauc_hub.exporting.export import Exported, export
from pauc_hub.exporting.onnx_file import OnnxFile
from pauc_hub.exporting.takes import Takes


def freeze_batch(model: Any) -> None:
    """pytorch#157621: a batch of another size than the example's does not run."""
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def biases(model: Any) -> list[Any]:
    named = [
        node.input[2] for node in model.graph.node if node.op_type == "Conv" and len(node.input) > 2
    ]
    return [each for each in model.graph.initializer if each.name in named]


def share_a_bias(model: Any) -> None:
    """pytorch#166797: one convolution got the bias of another that reads the same tensor."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            readers.setdefault(node.input[0], []).append(node)
    shapes = {each.name: list(each.dims) for each in model.graph.initializer}
    one, other = next((nodes[0], nodes[1]) for nodes in readers.values() if len(nodes) == 2)
    size = shapes[other.input[2]][0]
    donor = next(each for each in biases(model) if each.name == one.input[2])
    values = np.resize(numpy_helper.to_array(donor), size).astype(np.float32)
    target = next(each for each in biases(model) if each.name == other.input[2])
    target.CopyFrom(numpy_helper.from_array(values, target.name))


def forget_biases(model: Any) -> None:
    """pytorch#169178: runs, has the right shapes, and gets nothing right."""
    for each in biases(model):
        each.CopyFrom(
            numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(each)), each.name)
        )


def double(model: Any) -> None:
    """What cosines do not see."""
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == "embedding":
                node.output[place] = "half"
    model.graph.node.append(onnx.helper.make_node("Add", ["half", "half"], ["embedding"]))


def spoil_one_class(model: Any) -> None:
    """A head with a wrong number, behind a good embedding."""
    intercept = np.array([0.2, -0.1, 0.3], np.float32)
    for each in model.graph.initializer:
        if list(each.dims) == [3] and np.allclose(numpy_helper.to_array(each), intercept):
            each.CopyFrom(
                numpy_helper.from_array(intercept + np.array([0, 9, 0], np.float32), each.name)
            )


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (freeze_batch, r"^the exported file does not run at batch 2 \("),
        (
            share_a_bias,
            r"in fp32 it differs from the model: least cosine 0\.\d+ at batch 1, limit 0\.99999",
        ),
        (
            forget_biases,
            r"in fp32 it differs from the model: least cosine 0\.\d+ at batch 1, limit 0\.99999",
        ),
        (double, r"embeddings differ by 100\.00% of their length, limit 0\.1%"),
        (
            spoil_one_class,
            r"class agrees for [\d.]+% of the images, limit 99%; probability differs by",
        ),
    ],
)
def test_a_broken_graph_is_refused_and_no_file_is_left(
    fault: Callable[[Any], None],
    says: str,
    whole: Exported,
    resnet: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_program: object, takes: Takes, _outputs: object) -> OnnxFile:
        model = copy.deepcopy(onnx.load(whole.output))
        fault(model)
        return OnnxFile(model, takes)

    monkeypatch.setattr(making, "trace", lambda *_, **__: None)
    monkeypatch.setattr(making, "convert_to_onnx", broken)
    with pytest.raises(PaucError, match=says):
        export(
            resnet.folder,
            onnx=tmp_path / "broken.onnx",
            images=resnet.photos,
            uint8=True,
            prototypes=resnet.prototypes,
            probe=resnet.probe,
        )
    assert list(tmp_path.iterdir()) == []
