"""`pauc export`: what is printed, and the exit codes; the exporting itself is tested in
tests/pauc_hub/exporting.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pauc_hub.exporting.export as room
from pauc_hub.cli import run
from pauc_hub.exporting.export import Exported
from pauc_hub.exporting.parity import Parity

EXPORTED = Exported(
    output=Path("a.onnx"),
    format="onnx",
    model="tiny",
    precision="fp16",
    bytes=1_234_567,
    input={
        "name": "images",
        "type": "uint8",
        "layout": "NHWC",
        "shape": ["batch", 64, 64, 3],
        "values": "RGB bytes",
    },
    outputs={"embedding": [96], "class": [], "probability": []},
    images="photos",
    unreadable=0,
    parity=Parity(
        images=20,
        least_cosine=0.99999987,
        largest_difference=0.001,
        knn_agreement=0.985,
        batches={1: 0.99999987, 2: 1.0, 7: 1.0},
        choices={"class": 0.95},
        values={"probability": 0.0123},
    ),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What export() is called with; it gives EXPORTED, or what is put first."""
    calls: list[dict[str, Any]] = []

    def fake(model: str, **options: Any) -> Exported:
        calls.append({"model": model, **options})
        return EXPORTED if options["images"] else replace(EXPORTED, images="")

    monkeypatch.setattr(room, "export", fake)
    return calls


def test_what_was_written_takes_and_gives_is_printed(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--onnx",
        "a.onnx",
        "--images",
        "photos",
        "--uint8",
        "--precision",
        "fp16",
        "--prototypes",
        "model",
    ]
    assert run(["export", "tiny", *words]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == (
        "a.onnx: tiny in fp16, 1.2 MB\n"
        "  takes images (batch, 64, 64, 3) uint8: RGB bytes\n"
        "  gives embedding (batch, 96), class (batch), probability (batch)\n"
        "  20 images at batches of 1, 2, 7: least cosine 0.9999998 to the model's embedding\n"
        "  nearest images: 98.5% the same\n"
        "  class: the same for 95.0%\n"
        "  probability: at most 0.01 apart\n"
    )
    assert asked[0]["onnx"] == Path("a.onnx")
    assert asked[0]["torch_export"] is None
    assert (asked[0]["uint8"], asked[0]["prototypes"], asked[0]["dynamic_size"]) == (
        True,
        "model",
        False,
    )


def test_unreadable_images_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "export", lambda *_, **__: replace(EXPORTED, unreadable=1))
    assert run(["export", "tiny", "--onnx", "a.onnx", "--images", "photos"]) == 0
    assert (
        capsys.readouterr().err
        == "warning: 1 of the images in photos could not be read; left out\n"
    )


def test_made_pictures_are_said(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "tiny", "--onnx", "a.onnx", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["parity"]["least_cosine"] == 0.99999987
    assert printed.err == (
        "warning: compared on 20 made pictures, which resemble no photographs; --images FOLDER "
        "compares on yours\n"
    )
    assert run(["export", "tiny", "--onnx", "a.onnx", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "error: give one file to write: --onnx FILE.onnx or --torch-export FILE.pt2.\n"),
        (["--onnx", "a.bin"], "error: the output 'a.bin' must end in .onnx.\n"),
        (
            ["--onnx", "a.onnx", "--precision", "int8"],
            (
                "error: --precision int8 is calibrated on images: give some like those to embed, "
                "--images FOLDER.\n"
            ),
        ),
    ],
)
def test_wrong_usage_speaks_flags(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "tiny", *words]) == 2
    assert capsys.readouterr().err == line
