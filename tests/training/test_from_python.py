"""train() from a program: what `pauc train` takes, by the same names, from a folder, a list or a
dataset.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pauc_hub
from pauc_hub.errors import UsageError
from pauc_hub.models.folder import open_folder
from pauc_hub.training import rehearsal

SETTINGS: dict[str, Any] = {
    "architecture": "test_resnet",
    "size": 32,
    "batch_size": 8,
    "clusters": (2,),
    "kmeans": "torch",
}


class Pictures(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        draws = np.random.default_rng(index)
        return Image.fromarray(draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)), index % 2


def settings_of(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "config.json").read_text())
    return found


def test_a_dataset_and_its_files_are_the_same_images(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index:02}.png" for index in range(20)]
    for picture, path in zip(map(Pictures().__getitem__, range(20)), paths, strict=True):
        picture[0].save(path)
    runs = [str(tmp_path / name) for name in ("dataset", "list")]
    both: tuple[Any, ...] = (Pictures(), paths)
    models = [
        pauc_hub.train(images, run, epochs=1, quiet=True, precision="fp32", **SETTINGS)
        for images, run in zip(both, runs, strict=True)
    ]
    first, second = (open_folder(model).read_backbone() for model in models)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert open_folder(models[0]).facts["data"]["name"] == "Pictures"


def test_settings_stand_before_the_file_and_the_file_before_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    def enough(*_: object) -> None:
        raise Enough

    (tmp_path / "mine.toml").write_text("epochs = 3\nlr = 0.5\ntemperature = 0.4\n")
    given = SETTINGS | {"lr": 0.25, "labelled": ""}
    with pytest.raises(Enough):
        pauc_hub.train(
            Pictures(),
            tmp_path / "run",
            tmp_path / "mine.toml",
            recipe="cifar10_infonce",
            quiet=True,
            announce=enough,
            **given,
        )
    found = settings_of(tmp_path / "run")
    assert {name: found[name] for name in ("objective", "epochs", "lr", "temperature", "size")} == {
        "objective": "infonce",
        "epochs": 3,
        "lr": 0.25,
        "temperature": 0.4,
        "size": 32,
    }


def test_wrong_names_and_a_recipe_beside_a_whole_config_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^the settings: unknown setting 'epoch' \(did you mean epochs"
    ):
        pauc_hub.train(Pictures(), tmp_path / "run", epoch=3)
    with pytest.raises(
        UsageError, match=r"^recipe='imagenet1k' has no say beside a whole TrainConfig"
    ):
        pauc_hub.train(Pictures(), tmp_path / "run", pauc_hub.TrainConfig(), recipe="imagenet1k")
    with pytest.raises(UsageError, match=r"^a run goes on with its own settings"):
        pauc_hub.train(Pictures(), tmp_path / "run", resume=True, lr=0.1)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_tells_settings_reasons_and_time_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rehearsal, "MOST_STEPS", 2)
    given = {name: value for name, value in SETTINGS.items() if name != "clusters"}
    told = pauc_hub.train(
        Pictures(), dry_run=True, epochs=7, quiet=True, device="cpu", workers=1, **given
    )
    assert (told.config.epochs, told.config.size, told.config.clusters) == (7, 32, (2,))
    assert "clusters" in {choice.name for choice in told.choices}
    assert told.estimate.seconds > told.estimate.step_seconds > 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_needs_a_folder_and_a_dry_run_is_of_a_new_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^run is missing"):
        pauc_hub.train(Pictures())  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"^dry_run=True is of a new run: leave out resume"):
        pauc_hub.train(Pictures(), tmp_path / "run", dry_run=True, resume=True)


def test_a_value_range_goes_with_the_model(tmp_path: Path) -> None:
    for index in range(20):
        depth = np.random.default_rng(index).integers(0, 4096, (32, 32)).astype(np.uint16)
        Image.fromarray(depth).save(tmp_path / f"{index:02}.png")
    run = tmp_path / "run"
    model = pauc_hub.train(
        tmp_path, run, epochs=1, quiet=True, precision="fp32", value_range=(0, 4095), **SETTINGS
    )
    assert open_folder(model).facts["data"]["value_range"] == [0, 4095]
    with pytest.raises(UsageError, match="goes on with its own settings"):
        pauc_hub.train(tmp_path, run, resume=True, value_range=(0, 255), quiet=True)
