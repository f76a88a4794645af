"""The model folder of a run: in which precision it is written, and what it says where there are no
prototypes.
"""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.models.folder import open_folder
from pauc_hub.sources.by_index import from_entries
from pauc_hub.sources.folders import ImageFile
from pauc_hub.training.config import Config
from pauc_hub.training.estep import Expectation
from pauc_hub.training.networks.encoder import Encoder
from pauc_hub.training.rehearsal import _pretended
from pauc_hub.training.run.publish import Finished, publish

CPU = torch.device("cpu")


@pytest.fixture
def finished() -> Finished:
    torch.manual_seed(0)
    return Finished(
        encoder=Encoder("test_resnet", 8),
        expectation=_pretended(4, (2, 3), 8, CPU),
        sample=torch.randint(256, (4, 32, 32, 3), dtype=torch.uint8),
        source=from_entries("photos", [ImageFile(str(i), f"/nowhere/{i}") for i in range(4)]),
        preprocessing=Preprocessing(size=32),
        config=Config(architecture="test_resnet", size=32, dim=8, clusters=(2, 3)),
        seconds=1.0,
        command="pauc train photos -o run",
        done=(100, 0),
    )


def test_16_bits_are_taken_where_they_change_nothing(finished: Finished, tmp_path: Path) -> None:
    folder = open_folder(publish(finished, tmp_path / "model"))
    assert folder.read_backbone()["conv1.0.weight"].dtype == torch.float16
    assert 0.9999 <= folder.facts["fp16_least_cosine"] <= 1


@pytest.mark.parametrize("where", ["projector.output.bias", "backbone.layer4.0.bn1.running_var"])
def test_what_16_bits_do_not_hold_is_written_in_32(
    finished: Finished, tmp_path: Path, where: str
) -> None:
    finished.encoder.state_dict()[where][0] = 70_000
    folder = open_folder(publish(finished, tmp_path / "model"))
    tensors = {"backbone": folder.read_backbone(), "projector": folder.read_projector() or {}}
    room, _, name = where.partition(".")
    assert tensors[room][name].dtype == torch.float32
    assert tensors[room][name][0].item() == 70_000
    assert "fp16_least_cosine" not in folder.facts


def test_without_prototypes_it_claims_none(finished: Finished, tmp_path: Path) -> None:
    some = publish(finished, tmp_path / "some")
    none = publish(
        dataclasses.replace(finished, expectation=Expectation((), ())), tmp_path / "none"
    )
    assert [
        json.loads((model / "facts.json").read_text())["prototypes"] for model in (some, none)
    ] == [[2, 3], []]
    assert [open_folder(model).pauc["clusters"] for model in (some, none)] == [[2, 3], []]
    assert not (none / "prototypes.safetensors").exists()
    assert "there are no prototypes" in (none / "README.md").read_text()


def test_the_curves_of_the_run_go_with_it(finished: Finished, tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    picture.write_bytes(b"a picture")
    folder = open_folder(publish(dataclasses.replace(finished, curves=picture), tmp_path / "model"))
    folder.verify()
    assert (folder.path / "curves.png").read_bytes() == b"a picture"
    assert "](curves.png)" in (folder.path / "README.md").read_text()
    without = open_folder(publish(finished, tmp_path / "without"))
    assert "curves.png" not in without.sums
    assert "curves.png" not in (without.path / "README.md").read_text()
