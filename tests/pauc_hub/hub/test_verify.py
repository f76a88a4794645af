"""`pauc verify` and `pauc info`: what holds, what does not, and what made a file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hub_server import HubServer

from pauc_hub.cli import run
from pauc_hub.errors import ModelFolderError, UsageError
from pauc_hub.files.artefact import write_artefact
from pauc_hub.files.checksums import SUMS, format_sums
from pauc_hub.hub.info import info
from pauc_hub.hub.verify import verify_folder
from pauc_hub.models.bundled import bundled_folders
from pauc_hub.origin import Origin

BUNDLED = bundled_folders()[0]


@pytest.fixture
def changed(model_folder: Path, tmp_path: Path) -> Callable[[str, bytes], Path]:
    """The folder with another file in it, and with sums that fit."""

    def change(name: str, data: bytes) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(model_folder, folder)
        (folder / name).write_bytes(data)
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS}
        (folder / SUMS).write_bytes(format_sums(files))
        return folder

    return change


def broken(folder: Path) -> str:
    with pytest.raises(ModelFolderError) as refusal:
        verify_folder(folder)
    return str(refusal.value)


def test_what_holds_is_told(model_folder: Path) -> None:
    assert verify_folder(model_folder).checks == (
        "8 sha256 sums",
        "weights (test_resnet, 96 features)",
        "projector",
        "prototypes (4)",
        "card and facts (0 scores)",
    )


def test_a_flipped_byte(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flipped"
    shutil.copytree(model_folder, folder)
    data = bytearray((folder / "prototypes.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "prototypes.safetensors").write_bytes(data)
    assert "prototypes.safetensors' is damaged" in broken(folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda x: x * torch.nan, "not finite"), (torch.zeros_like, "same features for black and")],
)
def test_weights_that_are_of_no_use(
    model_folder: Path,
    changed: Callable[[str, bytes], Path],
    spoil: Callable[[torch.Tensor], torch.Tensor],
    said: str,
) -> None:
    weights = safetensors.torch.load_file(model_folder / "model.safetensors")
    spoilt = {
        name: spoil(value) if value.is_floating_point() else value
        for name, value in weights.items()
    }
    assert said in broken(
        changed("model.safetensors", safetensors.torch.save(spoilt, metadata={"format": "pt"}))
    )


def test_a_missing_tensor(model_folder: Path, changed: Callable[[str, bytes], Path]) -> None:
    weights = safetensors.torch.load_file(model_folder / "model.safetensors")
    gone = min(weights)
    del weights[gone]
    assert gone in broken(
        changed("model.safetensors", safetensors.torch.save(weights, metadata={"format": "pt"}))
    )


def test_another_network_in_the_facts(changed: Callable[[str, bytes], Path]) -> None:
    folder = changed(
        "facts.json", json.dumps({"name": "tiny", "architecture": "resnet50"}).encode()
    )
    assert "contradicts itself: facts.json says resnet50, config.json test_resnet" in broken(folder)


def test_a_score_that_the_card_does_not_state(changed: Callable[[str, bytes], Path]) -> None:
    score = {"protocol": "kNN", "metric": "top-1 %", "value": 90.1}
    folder = changed("facts.json", json.dumps({"name": "tiny", "scores": [score]}).encode())
    assert "README.md does not state kNN = 90.1" in broken(folder)


def test_the_bundled_model_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", BUNDLED.name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"{BUNDLED.name}: all holds: 8 sha256 sums, weights (resnet18, 512 features), projector"
    )


def test_info_of_a_model_and_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = info(BUNDLED)
    facts = json.loads((BUNDLED / "facts.json").read_text())
    assert (made.kind, made.facts["command"], made.facts["data"]["images"]) == (
        "model",
        facts["command"],
        100_000,
    )
    assert made.again.startswith(
        "with the command, on the 100,000 images of list sha256 1eb04eb3c937"
    )
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("metrics.jsonl", "config.json"):
        (folder / name).write_text("{}\n")
    assert (
        info(folder).again
        == f"it is not finished: `pauc train IMAGES -o {folder} --resume` goes on"
    )
    shutil.copytree(BUNDLED, folder / "model")
    assert info(folder).facts == {"finished": True} | made.facts
    assert run(["info", str(folder)]) == 0
    assert f"  command: {facts['command']}\n" in capsys.readouterr().out


def origin(model_folder: Path, **changes: Any) -> Origin:
    from pauc_hub.models.folder import open_folder

    about = {"model": str(model_folder), "weights_sha256": open_folder(model_folder).weights_sha256}
    return Origin(
        **{"space": "backbone", "preprocessing": {}, "root": str(model_folder.parent)}
        | about
        | changes
    )


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, "yes: its model and its images are here"),
        ({"weights_sha256": "0" * 64}, "here has other weights"),
        ({"model": "./gone"}, "not as things are: the model './gone' is not here"),
        ({"root": "/no/images"}, "not as things are: the images '/no/images' are not here"),
    ],
)
def test_info_of_an_artefact(
    model_folder: Path, tmp_path: Path, changes: dict[str, str], again: str
) -> None:
    file = tmp_path / "probe.safetensors"
    classes = [f"class {number}" for number in range(100)]
    about = {"classes": classes, "temperature": 1.5}
    write_artefact(
        file, "probe", 1, {"weights": np.zeros(3)}, origin(model_folder, **changes), about
    )
    found = info(file)
    assert (found.kind, found.facts["classes"], found.facts["temperature"]) == (
        "probe",
        "100 entries",
        1.5,
    )
    assert again in found.again


def test_info_of_a_table(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (64, 64), "teal").save(images / "teal.png")
    table = tmp_path / "table.safetensors"
    assert (
        run(
            [
                "embed",
                str(images),
                "-m",
                str(model_folder),
                "-o",
                str(table),
                "--device",
                "cpu",
                "--quiet",
            ]
        )
        == 0
    )
    found = info(table)
    assert (found.kind, found.facts["embeddings"], found.facts["width"]) == ("table", 1, 96)
    assert found.facts["weights_sha256"] == verify_folder(model_folder).weights_sha256


def test_info_of_something_else(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the folder"):
        info(model_folder / "README.md")
    with pytest.raises(
        UsageError, match="is no model folder, no run, and no folder of a table's parts"
    ):
        info(tmp_path)
    with pytest.raises(UsageError, match="there is no file or folder"):
        info(tmp_path / "gone.parquet")
    with pytest.raises(
        UsageError, match="is not here, and nothing is fetched: `pauc pull me/it` first"
    ):
        info("hf-hub:me/it")
    (tmp_path / "some.pth").touch()
    with pytest.raises(
        UsageError, match="is a checkpoint; `pauc convert` makes a model folder of it"
    ):
        info(tmp_path / "some.pth")


def test_info_of_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert info(BUNDLED.name) == info(BUNDLED.name.partition(".")[0]) == info(BUNDLED)


def test_models_on_the_hub(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add("me/resnet", {"README.md": b"---\ntags:\n- pauc-hub\n---\n"})
    hub.add("me/other", {"README.md": b"---\ntags:\n- pauc-hub\n---\n"})
    hub.add("you/resnet", {"README.md": b"---\ntags:\n- timm\n---\n"})
    assert run(["models", "--hub", "resnet"]) == 0
    assert capsys.readouterr() == ("hf-hub:me/resnet  3 downloads\n", "")
    assert run(["models", "--hub", "vit"]) == 1
    assert (
        capsys.readouterr().err
        == f"error: {hub.url} has no model tagged pauc-hub whose name holds 'vit'.\n"
    )
    assert run(["models", "resnet"]) == 2
    assert "`pauc models --hub resnet`" in capsys.readouterr().err
