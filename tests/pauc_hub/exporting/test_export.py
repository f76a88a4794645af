"""Exported files against the model: what they give, what they say of themselves, and when none is
kept. N images.
"""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

import pauc_hub
from pauc_hub.errors import ArtefactError, OriginMismatch, OutputExists, PaucError, UsageError
from pauc_hub.exporting import making
from pauc_hub.exporting.export import Exported, export
from pauc_hub.exporting.onnx_file import OnnxFile
from pauc_hub.exporting.takes import Takes

Squares = np.ndarray[Any, np.dtype[np.uint8]]
BATCHES = (1, 2, 7)


def run(file: Path, images: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What a user of onnxruntime writes."""
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


@pytest.fixture(scope="module")
def squares(resnet: Any) -> Squares:
    model = pauc_hub.load(resnet.folder, device="cpu", precision="fp32")
    return np.stack(
        [model.preprocessing.square(Image.open(path)) for path in sorted(resnet.photos.iterdir())]
    )


@pytest.fixture(scope="module")
def whole(resnet: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A ResNet from bytes of any size to embedding, prototypes and class."""
    return export(
        resnet.folder,
        onnx=tmp_path_factory.mktemp("whole") / "whole.onnx",
        images=resnet.photos,
        uint8=True,
        prototypes=resnet.prototypes,
        probe=resnet.probe,
        dynamic_size=True,
    )


@pytest.mark.parametrize("batch", BATCHES)
def test_the_embedding_is_the_models_at_any_batch(
    batch: int, whole: Exported, resnet: Any, squares: Squares
) -> None:
    expected = pauc_hub.load(resnet.folder, device="cpu", precision="fp32").embed(
        sorted(resnet.photos.iterdir())
    )
    found = run(whole.output, squares[:batch])["embedding"]
    np.testing.assert_allclose(found, expected[:batch], rtol=1e-4, atol=1e-4)
    # so that a mistaken bias would show: images differ, and features are not all alike
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    assert expected.std() > 0.1


def test_prototypes_and_class_are_what_assign_and_predict_say(
    whole: Exported, resnet: Any, squares: Squares, tmp_path: Path
) -> None:
    table = tmp_path / "photos.parquet"
    pauc_hub.embed(
        resnet.photos, resnet.folder, output=table, precision="fp32", device="cpu", quiet=True
    )
    found = run(whole.output, squares)
    assigned = pauc_hub.assign(
        table, prototypes=resnet.prototypes, output=tmp_path / "a.parquet", quiet=True
    )
    import pyarrow.parquet as pq

    rows = pq.read_table(assigned.output)
    for k in (2, 6):
        assert found[f"prototype_{k}"].tolist() == rows[f"prototype_{k}"].to_pylist()
        for kind in ("similarity", "confidence"):
            np.testing.assert_allclose(
                found[f"{kind}_{k}"], rows[f"{kind}_{k}"].to_numpy(), atol=1e-4
            )
    assert len(set(found["prototype_6"].tolist())) > 1
    classes = json.loads(metadata(whole.output))["probe"]["classes"]
    predicted = pauc_hub.predict(table, resnet.probe, quiet=True).rows.to_pylist()
    assert [classes[number] for number in found["class"]] == [row["class"] for row in predicted]
    np.testing.assert_allclose(
        found["probability"], [row["probability"] for row in predicted], atol=1e-4
    )
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-5)


def metadata(file: Path) -> str:
    return str(onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map["pauc"])


def test_a_file_says_what_made_it_and_names_no_place(whole: Exported, resnet: Any) -> None:
    about = json.loads(metadata(whole.output))
    model = pauc_hub.load(resnet.folder, device="cpu")
    assert about["origin"]["weights_sha256"] == model.weights_sha256
    assert about["origin"]["preprocessing"] == model.preprocessing.to_config()
    assert about["input"]["layout"] == "NHWC"
    assert about["normalised"] is False
    assert [level["prototypes"] for level in about["prototypes"]["granularities"]] == [2, 6]
    assert about["parity"]["images"] == 15
    assert about["versions"]["onnxruntime"] == onnxruntime.__version__
    written = onnx.load(whole.output)
    dims = written.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "height", "width", 3]
    assert b"site-packages" not in whole.output.read_bytes()
    assert not any(node.metadata_props for node in written.graph.node)


def test_info_tells_what_made_it(whole: Exported, resnet: Any, tmp_path: Path) -> None:
    found = pauc_hub.info(whole.output)
    assert found.kind == "onnx"
    assert (
        found.facts["weights_sha256"] == pauc_hub.load(resnet.folder, device="cpu").weights_sha256
    )
    assert found.facts["probe"]["classes"] == ["ant", "bee", "cat"]
    model = onnx.load(whole.output)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(
        UsageError, match=(r"foreign\.onnx' was not written by pauc-hub: it has no entry pauc\.$")
    ):
        pauc_hub.info(tmp_path / "foreign.onnx")
    for name in ("a.onnx", "a.pt2"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(ArtefactError, match=rf"{name}' is damaged, or no "):
            pauc_hub.info(tmp_path / name)


def test_a_free_size_is_free(whole: Exported, resnet: Any) -> None:
    """No square, and not the size that was traced; against timm's own network."""
    images = np.random.default_rng(0).integers(0, 256, (3, 80, 112, 3), dtype=np.uint8)
    model = pauc_hub.load(resnet.folder, device="cpu", precision="fp32")
    pixels = (images / 255 - model.preprocessing.mean) / model.preprocessing.std
    with torch.inference_mode():
        expected = model.network(
            torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
        ).numpy()
    np.testing.assert_allclose(
        run(whole.output, images)["embedding"], expected, rtol=1e-4, atol=1e-4
    )


def test_int8_is_small_and_near(resnet: Any, squares: Squares, tmp_path: Path) -> None:
    """Only the network is in 8 bits: the projection behind it keeps 32, and its length of 1."""
    found = export(
        resnet.folder,
        onnx=tmp_path / "int8.onnx",
        images=resnet.photos,
        precision="int8",
        space="projection",
        uint8=True,
    )
    assert list(found.outputs) == ["embedding"]
    written = onnx.load(found.output)
    assert [output.name for output in written.graph.output] == ["embedding"]
    stored = {each.name: numpy_helper.to_array(each) for each in written.graph.initializer}
    assert (
        sum(values.nbytes for values in stored.values() if values.dtype == np.int8)
        > found.bytes / 2
    )
    assert any(
        values.dtype == np.float32 and values.shape in ((16, 96), (96, 16))
        for values in stored.values()
    )
    expected = pauc_hub.load(resnet.folder, device="cpu", precision="fp32").embed(
        sorted(resnet.photos.iterdir()), space="projection"
    )
    embedding = run(found.output, squares)["embedding"]
    cosines = (embedding * expected).sum(axis=1)
    assert 0.98 < found.parity.least_cosine == pytest.approx(cosines.min(), abs=1e-5)
    assert found.parity.least_cosine < 0.99999, "as exact as 32 bits, so nothing is in 8"
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-4)


def test_torchs_own_file_gives_the_same_and_needs_no_extra(
    resnet: Any, squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        # so that importing it fails
        monkeypatch.setitem(sys.modules, name, None)
    found = export(
        resnet.folder,
        torch_export=tmp_path / "r.pt2",
        images=resnet.photos,
        uint8=True,
        probe=resnet.probe,
    )
    extra = {"pauc.json": ""}
    module = torch.export.load(found.output, extra_files=extra).module()
    expected = pauc_hub.load(resnet.folder, device="cpu", precision="fp32").embed(
        sorted(resnet.photos.iterdir())
    )
    for batch in BATCHES:
        outputs = dict(zip(found.outputs, module(torch.from_numpy(squares[:batch])), strict=True))
        np.testing.assert_allclose(
            outputs["embedding"].numpy(), expected[:batch], rtol=1e-4, atol=1e-4
        )
        assert outputs["class"].shape == (batch,)
    assert json.loads(extra["pauc.json"])["kind"] == "torch-export"
    assert pauc_hub.info(found.output).facts["probe"]["space"] == "backbone"


def test_the_example_of_the_documentation_runs(
    whole: Exported, resnet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r18.onnx").write_bytes(whole.output.read_bytes())
    photo = resnet.photos / "07.png"
    (tmp_path / "cat.jpg").write_bytes(photo.read_bytes())
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
    names: dict[str, Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], names)
    expected = pauc_hub.load(resnet.folder, device="cpu", precision="fp32").embed(photo)
    np.testing.assert_allclose(names["embedding"], expected, rtol=1e-4, atol=1e-4)


def test_a_vit_takes_pixels_and_gives_the_projection(
    vit: Path, resnet: Any, tmp_path: Path
) -> None:
    """Without --uint8, and with the model's own prototypes, which were not calibrated."""
    found = export(
        vit,
        onnx=tmp_path / "vit.onnx",
        images=resnet.photos,
        space="projection",
        prototypes="model",
        precision="fp16",
    )
    assert found.outputs == {"embedding": [16], "prototype_5": [], "similarity_5": []}
    assert found.input["shape"] == ["batch", 3, 64, 64]
    model = pauc_hub.load(vit, device="cpu", precision="fp32")
    squares = np.stack(
        [model.preprocessing.square(Image.open(path)) for path in sorted(resnet.photos.iterdir())]
    )
    pixels = (squares / 255 - model.preprocessing.mean) / model.preprocessing.std
    for batch in BATCHES:
        given = pixels[:batch].transpose(0, 3, 1, 2).astype(np.float32)
        embedding = run(found.output, given)["embedding"]
        expected = model.embed(sorted(resnet.photos.iterdir())[:batch], space="projection")
        np.testing.assert_allclose(embedding, expected, atol=0.02)
        assert embedding.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-4)
    stored = {
        numpy_helper.to_array(each).dtype for each in onnx.load(found.output).graph.initializer
    }
    assert np.dtype(np.float16) in stored


# --- what parity must see. The graph is the good one, and one number in it is wrong. -------------


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
            (r"class agrees for [\d.]+% of the images, limit 99%; probability differs by"),
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
    monkeypatch.setattr(making, "convert", broken)
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


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give one file to write: onnx=FILE.onnx or torch_export=FILE.pt2."),
        (
            {"onnx": "a.onnx", "torch_export": "a.pt2"},
            ("give one file to write: onnx=FILE.onnx or torch_export"),
        ),
        ({"onnx": "a.pt2"}, "the output 'a.pt2' must end in .onnx."),
        ({"onnx": "nowhere/a.onnx"}, "'nowhere/a.onnx' cannot be written: there is no such folder"),
        ({"onnx": "a.onnx", "precision": "fp8"}, "precision=fp8 is not one of fp32, fp16, int8."),
        ({"onnx": "a.onnx", "space": "pixel"}, "space=pixel is not one of backbone, projection."),
        ({"onnx": "a.onnx", "precision": "int8"}, "precision=int8 is calibrated on images"),
        (
            {"torch_export": "a.pt2", "precision": "int8", "images": "."},
            ("precision=int8 is for ONNX alone"),
        ),
        ({"onnx": "a.onnx", "images": "nowhere/"}, "nowhere"),
    ],
)
def test_bad_options_are_refused_before_the_model_is_read(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        export("no such model", **options)
    assert says in str(caught.value)


def test_nothing_is_overwritten_unasked(whole: Exported, resnet: Any) -> None:
    with pytest.raises(OutputExists):
        export(resnet.folder, onnx=whole.output)


def test_what_another_model_made_is_refused(resnet: Any, vit: Path, tmp_path: Path) -> None:
    with pytest.raises(
        OriginMismatch, match=(r"p\.probe\.safetensors' was made with harsh \(weights")
    ):
        export(vit, onnx=tmp_path / "a.onnx", probe=resnet.probe)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prototypes": "model"}, "model 'tiny' has no prototypes. Make some with `pauc cluster`"),
        ({"space": "projection"}, "model 'tiny' has no projection head. Use the backbone space."),
    ],
)
def test_what_a_bare_backbone_lacks_is_said(
    options: dict[str, Any], says: str, headless_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        export(headless_folder, onnx=tmp_path / "a.onnx", **options)
    assert says in str(caught.value)


def test_another_size_than_the_probes_is_refused(resnet: Any, tmp_path: Path) -> None:
    with pytest.raises(
        OriginMismatch, match=(r"was made at 64 pixels, and this exports 96\. Give image_size=64\.")
    ):
        export(resnet.folder, onnx=tmp_path / "a.onnx", probe=resnet.probe, image_size=96)


def test_a_network_of_one_size_has_no_free_one(fixed_vit: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=(r"^dynamic_size=True does not suit this network \(.*image_size=N\.$")
    ):
        export(fixed_vit, onnx=tmp_path / "a.onnx", dynamic_size=True, quiet=True)


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxscript" else name
    )
    with pytest.raises(
        UsageError, match=(r"^ONNX needs onnxscript: `pip install 'pauc-hub\[export\]'`\.$")
    ):
        export("pauc_resnet18", onnx=tmp_path / "a.onnx")
