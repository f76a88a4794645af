"""What -m and load() take: names, folders, and the line that answers anything else."""

import json
from pathlib import Path

import pytest

from pauc_hub.errors import MissingWeights, PaucError, UnknownModel
from pauc_hub.models import registration
from pauc_hub.models.catalog import Entry, available_models, locate


@pytest.fixture(autouse=True)
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the real weights: one bundled folder, described by its receipts, and an empty working directory."""
    folder = tmp_path / "weights" / "pauc_resnet18.pets"
    folder.mkdir(parents=True)
    config = {
        "architecture": "resnet18",
        "num_features": 512,
        "pretrained_cfg": {"input_size": [3, 96, 96]},
        "pauc": {"objective": "pauc"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "facts.json").write_text(json.dumps({"epochs": 7, "data": {"name": "pets", "images": 3680}}))
    monkeypatch.setattr(registration, "WEIGHTS", folder.parent)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_lists_bundled_models_and_architectures_without_weights(bundled: Path) -> None:
    assert available_models() == [
        Entry("pauc_resnet18.pets", True, "resnet18, 512 numbers from 96 px; pauc, 7 epochs on 3680 images"),
        Entry("pauc_resnet18_cifar", False, "resnet18 with a CIFAR stem; no weights are bundled yet"),
        Entry(
            "pauc_resnet18_cifar_pool",
            False,
            "resnet18 with a CIFAR stem that keeps the max-pool; no weights are bundled yet",
        ),
        Entry("pauc_resnet50", False, "resnet50; no weights are bundled yet"),
        Entry("pauc_resnet50_cifar", False, "resnet50 with a CIFAR stem; no weights are bundled yet"),
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"epochs": 1, "data": 3}'])
def test_a_damaged_folder_does_not_spoil_the_list(bundled: Path, content: str) -> None:
    (bundled / "facts.json").write_text(content)
    assert available_models()[0].description.startswith("damaged (")


@pytest.mark.parametrize("name", ["pauc_resnet18", "pauc_resnet18.pets"])
def test_a_name_is_a_bundled_folder_even_beside_a_folder_of_that_name(bundled: Path, name: str) -> None:
    Path(name).mkdir()
    assert locate(name) == bundled
    assert locate(f"./{name}") == Path(name)
    assert locate(Path(name)) == Path(name)


REFUSED = [
    ("pauc_resnet50", MissingWeights, "no weights are bundled for pauc_resnet50 yet. Bundled are: pauc_resnet18.pets."),
    (
        "pauc_resnet5",
        UnknownModel,
        "unknown model 'pauc_resnet5'. Did you mean 'pauc_resnet50'? `pauc models` lists all.",
    ),
    (
        "pauc_resnet18.pet",
        UnknownModel,
        "unknown model 'pauc_resnet18.pet'. Did you mean 'pauc_resnet18.pets'? `pauc models` lists all.",
    ),
    ("runs/7", UnknownModel, "unknown model 'runs/7'. `pauc models` lists all."),
    (
        "hf-hub:a/b",
        UnknownModel,
        "models on the Hugging Face Hub cannot be named yet. Download 'hf-hub:a/b', and give the folder.",
    ),
    ("weights.pth", UnknownModel, "'weights.pth' is a file, not a model folder."),
]


@pytest.mark.parametrize(("name", "error", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_answers_anything_else_in_one_line(name: str, error: type[PaucError], message: str) -> None:
    Path("weights.pth").touch()
    with pytest.raises(error) as refusal:
        locate(name)
    assert str(refusal.value) == message
