"""What export refuses: options, models and files that do not go together."""

from pathlib import Path
from typing import Any

import pytest

from pauc_hub.errors import OriginMismatch, OutputExists, UsageError
from pauc_hub.exporting.export import Exported, export


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give one file to write: onnx=FILE.onnx or torch_export=FILE.pt2."),
        (
            {"onnx": "a.onnx", "torch_export": "a.pt2"},
            "give one file to write: onnx=FILE.onnx or torch_export",
        ),
        ({"onnx": "a.pt2"}, "the output 'a.pt2' must end in .onnx."),
        ({"onnx": "nowhere/a.onnx"}, "'nowhere/a.onnx' cannot be written: there is no such folder"),
        ({"onnx": "a.onnx", "precision": "fp8"}, "precision=fp8 is not one of fp32, fp16, int8."),
        ({"onnx": "a.onnx", "space": "pixel"}, "space=pixel is not one of backbone, projection."),
        ({"onnx": "a.onnx", "precision": "int8"}, "precision=int8 is calibrated on images"),
        (
            {"torch_export": "a.pt2", "precision": "int8", "images": "."},
            "precision=int8 is for ONNX alone",
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
        OriginMismatch, match=r"p\.probe\.safetensors' was made with harsh \(weights"
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
        OriginMismatch, match=r"was made at 64 pixels, and this exports 96\. Give image_size=64\."
    ):
        export(resnet.folder, onnx=tmp_path / "a.onnx", probe=resnet.probe, image_size=96)


def test_a_network_of_one_size_has_no_free_one(fixed_vit: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^dynamic_size=True does not suit this network \(.*image_size=N\.$"
    ):
        export(fixed_vit, onnx=tmp_path / "a.onnx", dynamic_size=True, quiet=True)


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxscript" else name
    )
    with pytest.raises(
        UsageError, match=r"^ONNX needs onnxscript: `pip install 'pauc-hub\[export\]'`\.$"
    ):
        export("pauc_resnet18", onnx=tmp_path / "a.onnx")
