"""`pauc embed -m` with models that are fetched, and `pauc search` in their tables: what is printed,
what is left.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from hub_repositories import TOKEN
from hub_server import HubServer
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.files.checksums import file_sum
from pauc_hub.tables.stored import read_table

NAME = "test_resnet.r160_in1k"
CPU = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "saved"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        timm.models.save_for_hf(
            timm.create_model("test_resnet"), str(folder), safe_serialization=True
        )
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: HubServer, saved: Path) -> None:
    """Two pictures in `photos/`, a third beside it, and timm's weights on the Hub."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for colour in ("teal", "tan", "plum"):
        Image.new("RGB", (200, 170), colour).save(f"photos/{colour}.png")
    Path("photos/plum.png").rename("plum.png")
    hub.add(f"timm/{NAME}", saved)


def test_the_table_says_which_weights_made_it(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", "photos", "-m", "test_resnet", "--image-size", "64", *CPU]) == 0
    about = read_table(Path("photos.parquet")).provenance
    assert (about.model, about.weights_sha256) == (NAME, file_sum(saved / "model.safetensors"))
    assert about.preprocessing["input_size"] == [3, 64, 64]
    printed = capsys.readouterr()
    assert f"2 embeddings of 96 numbers by {NAME} in " in printed.out
    assert printed.err == ""


def test_search_finds_the_model_of_a_table_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["embed", "photos", "-m", f"timm/{NAME}", "--image-size", "64", "--quiet", *CPU]) == 0
    )
    assert run(["search", "plum.png", "--in", "photos.parquet", "-k", "1", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines()[0] == "plum.png"


def test_a_folder_of_the_same_name_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    Path("test_resnet").mkdir()
    assert run(["embed", "photos", "-m", "test_resnet", *CPU]) == 0
    note = "note: 'test_resnet' is the timm model; the folder of that name is './test_resnet'.\n"
    assert capsys.readouterr().err == note
    assert run(["embed", "photos", "-m", "test_resnet", "--quiet", *CPU]) == 0
    assert capsys.readouterr().err == ""


def test_sizes_are_refused_by_their_flag(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timm.models.save_for_hf(timm.create_model("test_vit"), "vit", safe_serialization=True)
    assert run(["embed", "photos", "-m", "vit", "--image-size", "100", *CPU]) == 2
    line = (
        "error: --image-size 100 is no multiple of the network's patches of 16 pixels: use 96 "
        "or 112.\n"
    )
    assert capsys.readouterr() == ("", line)
    assert not Path("photos.parquet").exists()


def test_what_stands_there_is_noticed_before_anything_is_fetched(
    hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos.parquet").touch()
    assert run(["embed", "photos", "-m", NAME, *CPU]) == 1
    assert (
        capsys.readouterr().err
        == "error: 'photos.parquet' exists. Name another place, or give --overwrite.\n"
    )
    assert hub.requests == []


def test_without_a_network_it_is_one_line(
    hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.stop()
    assert run(["embed", "photos", "-m", NAME, *CPU]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {hub.url} cannot be reached (")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not Path("photos.parquet").exists()


def test_the_environment_says_which_hub_which_cache_and_who_asks(
    hub: HubServer, saved: Path
) -> None:
    """In a process of its own, since huggingface_hub reads it when it is imported."""
    hub.add("me/secret", saved, private=True)
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": "home", "HF_TOKEN": TOKEN}
    command = [
        sys.executable,
        "-m",
        "pauc_hub.cli",
        "embed",
        "photos",
        "-m",
        "hf-hub:me/secret",
        *CPU,
    ]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert read_table(Path("photos.parquet")).provenance.model == "hf-hub:me/secret"
    assert [path.name for path in Path("home/hub").glob("models--*")] == ["models--me--secret"]


def test_photographs_for_a_small_model_bring_a_stronger_one_to_mind(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """200 x 170 pixels, for a model of 64."""
    assert run(["embed", "photos", "-m", "pauc_resnet18", *CPU]) == 0
    printed = capsys.readouterr()
    assert " images/s at 64 px)" in printed.out
    assert printed.err.startswith(
        "note: pauc_resnet18.tiny_imagenet sees 64 x 64 pixels, and half of these images "
    )
    assert printed.err.endswith(
        "--model vit_small_patch14_reg4_dinov2.lvd142m with --image-size 224 is stronger.\n"
    )
    assert printed.err.count("\n") == 1
    assert run(["embed", "photos", "--overwrite", "--quiet", *CPU]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_model_for_large_images_says_what_smaller_ones_save(
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = timm.create_model(
        "vit_small_patch14_reg4_dinov2", embed_dim=48, depth=1, num_heads=3, img_size=392
    )
    timm.models.save_for_hf(network, "vit", safe_serialization=True)
    assert run(["embed", "photos", "-m", "vit", *CPU]) == 0
    note = (
        "note: vit sees 392 x 392 pixels, 3.1 times the work of 224: --image-size 224 is quicker.\n"
    )
    printed = capsys.readouterr()
    assert printed.err == note
    assert " images/s at 392 px)" in printed.out
    assert run(["embed", "photos", "-m", "vit", "--image-size", "224", "--overwrite", *CPU]) == 0
    assert capsys.readouterr().err == ""
