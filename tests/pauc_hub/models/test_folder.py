"""The model folder: what is written is read back, and timm and coreutils agree."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from small_model import FILES, PREPROCESSING, backbone, clusterings, write

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import ModelFolderError, OutputExists
from pauc_hub.files import atomic as durable
from pauc_hub.models.folder import open_folder
from pauc_hub.models.write_folder import fits_half


def test_what_is_written_is_read_back_exactly(folder: Path) -> None:
    read = open_folder(folder)
    assert read.architecture == "resnet18"
    assert read.num_features == 4
    assert read.facts == {"name": "Zürich", "seconds": 1.5}
    assert read.pauc == {
        "format_version": 1,
        "objective": "pauc",
        "dim": 5,
        "clusters": [2, 3],
        "resolution": 32,
    }
    assert {key: read.preprocessing_config[key] for key in PREPROCESSING} == PREPROCESSING
    assert_same(read.read_backbone(), backbone())
    assert_same(read.read_projector() or {}, {"hidden.weight": torch.eye(4)})
    for found, written in zip(read.read_prototypes(), clusterings(), strict=True):
        assert_same(fields(found), fields(written))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in expected.items())


def fields(prototypes: Prototypes) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(prototypes).items() if value is not None}


def test_it_holds_the_files_of_the_format_and_no_others(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_config_is_laid_out_as_timm_reads_it(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text()) == {
        "architecture": "resnet18",
        "num_classes": 0,
        "num_features": 4,
        "global_pool": "avg",
        "dtype": "float32",
        "pretrained_cfg": {
            **PREPROCESSING,
            "num_classes": 0,
            "first_conv": "conv1",
            "classifier": "fc",
        },
        "pauc": {
            "format_version": 1,
            "objective": "pauc",
            "dim": 5,
            "clusters": [2, 3],
            "resolution": 32,
        },
    }


def test_prototypes_stand_under_the_names_of_the_format(folder: Path) -> None:
    with safe_open(folder / "prototypes.safetensors", framework="pt") as tensors:
        names = ("prototypes", "concentrations", "sizes", "radius")
        assert set(tensors.keys()) == {f"{name}.{m}" for name in names for m in (0, 1)} | {
            "parents.1"
        }
        assert tensors.metadata() == {"format": "pt"}


def test_sha256sum_agrees(folder: Path) -> None:
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name}: OK" for name in sorted(FILES - {"SHA256SUMS"})]
    open_folder(folder).verify()


def test_weights_sha256_is_that_of_the_file(folder: Path) -> None:
    expected = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert open_folder(folder).weights_sha256 == expected


def test_half_rounds_floats_to_16_bits_and_leaves_integers(tmp_path: Path) -> None:
    read = open_folder(write(tmp_path / "model", half=True))
    weights = read.read_backbone()
    assert weights["conv1.weight"].dtype == torch.float16
    assert torch.equal(weights["conv1.weight"], backbone()["conv1.weight"].half())
    assert weights["bn1.num_batches_tracked"] == 70_000
    fine, written = read.read_prototypes()[1], clusterings()[1]
    assert fine.sizes.tolist() == [4, 70_001, 1]
    assert torch.equal(fine.centroids, written.centroids.half().float())
    assert fine.concentrations.dtype == torch.float32


def test_half_refuses_numbers_that_16_bits_do_not_hold(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFolderError, match=r"^bn1.running_var reaches 1e\+05, too large for 16 bits\."
    ):
        write(tmp_path / "model", backbone={"bn1.running_var": torch.tensor([1.0, 1e5])}, half=True)
    assert list(tmp_path.iterdir()) == []


def test_what_16_bits_hold_is_known_before_anything_is_written() -> None:
    steps, nothing = torch.tensor([70_000]), torch.ones(0)
    assert fits_half(
        {"weight": torch.tensor([-65504.0]), "num_batches_tracked": steps, "empty": nothing}
    )
    assert not fits_half({"weight": torch.ones(1), "running_var": torch.tensor([1.0, -65505.0])})
    assert not fits_half({"weight": torch.tensor([float("inf")])})


def test_projector_and_prototypes_may_be_absent(tmp_path: Path) -> None:
    read = open_folder(write(tmp_path / "model", projector=None, prototypes=[]))
    assert read.read_projector() is None
    assert read.read_prototypes() == ()
    read.verify()


def test_a_preprocessing_key_that_timm_would_refuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="timm has no preprocessing key size"):
        write(tmp_path / "model", preprocessing={**PREPROCESSING, "size": 32})


@pytest.mark.parametrize("name", ["concentrations", "sizes", "radius", "parents"])
def test_prototypes_refuse_columns_of_another_length(name: str) -> None:
    given = fields(clusterings()[1]) | {name: torch.ones(4)}
    with pytest.raises(ValueError, match=f"{name} must have one entry for each of 3 prototypes"):
        Prototypes(**given)


def test_nothing_is_overwritten_unless_asked(folder: Path) -> None:
    with pytest.raises(
        OutputExists, match=rf"^'{folder}' exists\. Name another place, or give overwrite=True\.$"
    ):
        write(folder, num_features=9)
    assert open_folder(folder).num_features == 4
    write(folder, num_features=9, overwrite=True, projector=None)
    assert open_folder(folder).num_features == 9
    assert {path.name for path in folder.iterdir()} == FILES - {"projector.safetensors"}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_only_a_model_folder_is_ever_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(
        OutputExists, match=r"photos' is no model folder, so it is not overwritten\."
    ):
        write(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_an_empty_folder_and_missing_parents_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert open_folder(write(tmp_path / "empty")).num_features == 4
    assert open_folder(write(tmp_path / "runs" / "first" / "model")).num_features == 4


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_midway_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    if exists:
        write(tmp_path / "model")
    written: list[Path] = []

    def full_disk(path: Path, data: bytes) -> None:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr(durable, "write_synced", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path / "model", num_features=9, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"] * exists
    if exists:
        assert open_folder(tmp_path / "model").num_features == 4


def test_a_failed_exchange_puts_the_old_folder_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, failures = Path.rename, iter([OSError(5, "Input/output error")])

    def fail_once(self: Path, target: Path) -> Path:
        if target == folder and (failure := next(failures, None)):
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError, match="Input/output error"):
        write(folder, num_features=9, overwrite=True)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert open_folder(folder).num_features == 4


def test_every_file_and_both_folders_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    write(tmp_path / "model")
    assert len(synced) == len(FILES) + 2


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write(Path("~/model")) == tmp_path / "model"
    assert open_folder("~/model").num_features == 4
