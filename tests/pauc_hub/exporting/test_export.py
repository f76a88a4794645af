"""Exported files against the model: what they give and what they say of themselves. N images."""

import json
import sys
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
from pauc_hub.errors import ArtefactError, UsageError
from pauc_hub.exporting.export import Exported, export

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
        UsageError, match=r"foreign\.onnx' was not written by pauc-hub: it has no entry pauc\.$"
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
