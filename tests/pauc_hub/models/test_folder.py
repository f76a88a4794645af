"""The model folder: what is written is read back, timm and coreutils agree, and damage is named in
one line.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import ModelFolderError, OutputExists
from pauc_hub.files import atomic as durable
from pauc_hub.models.folder import ModelFolder, open_folder
from pauc_hub.models.write_folder import fits_half, write_folder

PREPROCESSING = {
    "input_size": [3, 32, 32],
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
}
FILES = {
    "config.json",
    "model.safetensors",
    "projector.safetensors",
    "prototypes.safetensors",
    "facts.json",
    "README.md",
    "SHA256SUMS",
    "modules.json",
    "sentence_bert_config.json",
}


def backbone() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "conv1.weight": torch.randn(4, 3, 7, 7).to(memory_format=torch.channels_last),
        "bn1.running_var": torch.rand(4),
        "bn1.num_batches_tracked": torch.tensor(70_000),  # beyond what 16 bits hold
    }


def clusterings() -> list[Prototypes]:
    torch.manual_seed(2)
    coarse = Prototypes(
        centroids=F.normalize(torch.randn(2, 5), dim=1),
        concentrations=torch.tensor([0.2, 0.3]),
        sizes=torch.tensor([70_001, 5]),
        radius=torch.tensor([0.5, 0.25]),
    )
    fine = Prototypes(
        centroids=F.normalize(torch.randn(3, 5), dim=1),
        concentrations=torch.tensor([0.1, 0.2, 0.3]),
        sizes=torch.tensor([4, 70_001, 1]),
        radius=torch.tensor([0.5, 0.75, 0.0]),
        parents=torch.tensor([1, 0, 1]),
    )
    return [coarse, fine]


def write(path: Path, **changed: Any) -> Path:
    arguments: dict[str, Any] = {
        "architecture": "resnet18",
        "backbone": backbone(),
        "num_features": 4,
        "preprocessing": PREPROCESSING,
        "pauc": {"objective": "pauc", "dim": 5, "clusters": [2, 3], "resolution": 32},
        "projector": {"hidden.weight": torch.eye(4)},
        "prototypes": clusterings(),
        "facts": {"name": "Zürich", "seconds": 1.5},
        "card": "# Zürich\n",
        "half": False,
    }
    return write_folder(path, **(arguments | changed))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "model")


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
        ModelFolderError, match=(r"^bn1.running_var reaches 1e\+05, too large for 16 bits\.")
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


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def reseal(folder: Path, name: str, data: bytes) -> None:
    """Damage that the sums do not tell: as if the folder had been written so."""
    (folder / name).write_bytes(data)
    sums = (folder / "SHA256SUMS").read_text()
    new = f"{hashlib.sha256(data).hexdigest()}  {name}"
    (folder / "SHA256SUMS").write_text(re.sub(rf"\w{{64}}  {re.escape(name)}", new, sums))


def edit_config(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changed
    reseal(folder, "config.json", json.dumps(config).encode())


READERS: dict[str, Callable[[ModelFolder], object]] = {
    "model.safetensors": ModelFolder.read_backbone,
    "projector.safetensors": ModelFolder.read_projector,
    "prototypes.safetensors": ModelFolder.read_prototypes,
    "facts.json": lambda folder: folder.facts,
}


@pytest.mark.parametrize("name", sorted(READERS))
def test_reading_a_damaged_file_names_it(folder: Path, name: str) -> None:
    flip_a_byte(folder / name)
    opened = open_folder(folder)
    for refuse in (READERS[name], ModelFolder.verify):
        with pytest.raises(
            ModelFolderError, match=rf"^'{folder / name}' is damaged: its sha256 is \w{{12}}…, "
        ) as error:
            refuse(opened)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(READERS))
def test_reading_a_file_that_went_missing_names_it(folder: Path, name: str) -> None:
    opened = open_folder(folder)
    (folder / name).unlink()
    with pytest.raises(
        ModelFolderError,
        match=(rf"^'{folder / name}' cannot be read \(No such file or directory\)\.$"),
    ):
        READERS[name](opened)


def test_verify_looks_at_the_named_files_alone(folder: Path) -> None:
    flip_a_byte(folder / "README.md")
    opened = open_folder(folder)
    opened.verify("model.safetensors", "config.json")
    with pytest.raises(ModelFolderError, match=r"README\.md' is damaged"):
        opened.verify()


def test_a_file_without_a_sum_is_refused(folder: Path) -> None:
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text(
        "".join(line for line in sums if "model.safetensors" not in line)
    )
    opened = open_folder(folder)
    with pytest.raises(ModelFolderError, match=r"model\.safetensors' has no sum in SHA256SUMS\."):
        opened.read_backbone()
    with pytest.raises(ModelFolderError, match=r"model\.safetensors' has no sum in SHA256SUMS\."):
        _ = opened.weights_sha256


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"is no model folder: it has no config\.json\."),
        (lambda f: (f / "model.safetensors").unlink(), r"it has no model\.safetensors\."),
        (lambda f: (f / "SHA256SUMS").unlink(), r"it has no SHA256SUMS\."),
        (
            lambda f: (f / "SHA256SUMS").write_text("nonsense\n"),
            r"SHA256SUMS' is not a list as `sha256sum` writes it\.",
        ),
        (
            lambda f: (f / "SHA256SUMS").write_text(""),
            (r"SHA256SUMS' is not a list as `sha256sum` writes it\."),
        ),
        (
            lambda f: (f / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n"),
            (r"is not a list as `sha256sum` writes"),
        ),
        (lambda f: flip_a_byte(f / "config.json"), r"config\.json' is damaged"),
        (
            lambda f: reseal(f, "config.json", b"{oops"),
            (r"config\.json' is not JSON \(Expecting property name"),
        ),
        (lambda f: reseal(f, "config.json", b"\xff\xff\xff"), r"config\.json' is not JSON"),
        (
            lambda f: reseal(f, "config.json", b"[1]"),
            (r"config\.json' is not a JSON object but a list\."),
        ),
        (
            lambda f: edit_config(f, pauc=None),
            (r"config\.json' has no usable pauc\. Was it written by pauc-hub\?"),
        ),
        (
            lambda f: edit_config(f, architecture=3, num_features="4"),
            (r"no usable architecture, num_features\."),
        ),
        (
            lambda f: edit_config(f, pauc={"format_version": 2}),
            (r"is of format 2, but this pauc-hub reads 1\. Upgrade"),
        ),
        (lambda f: edit_config(f, pauc={}), r"is of format None, but this pauc-hub reads 1\."),
    ],
)
def test_what_is_no_model_folder_is_refused_in_one_line(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(ModelFolderError, match=message) as error:
        open_folder(folder)
    assert "\n" not in str(error.value)


def test_a_path_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFolderError, match=(r"absent' is no folder\. A model folder holds config\.json and ")
    ):
        open_folder(tmp_path / "absent")


def test_sealed_nonsense_is_refused_too(folder: Path) -> None:
    reseal(folder, "model.safetensors", b"nonsense")
    with pytest.raises(ModelFolderError, match=r"model\.safetensors' is no safetensors file \("):
        open_folder(folder).read_backbone()


def test_prototypes_of_another_layout_are_refused(folder: Path) -> None:
    reseal(folder, "prototypes.safetensors", (folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelFolderError, match=r"holds no usable prototypes \('prototypes\.0'\)"):
        open_folder(folder).read_prototypes()
    other = write(folder.parent / "other", projector={"prototypes.0": torch.eye(2)})
    reseal(folder, "prototypes.safetensors", (other / "projector.safetensors").read_bytes())
    with pytest.raises(
        ModelFolderError, match=(r"holds no usable prototypes \('concentrations\.0'\)")
    ):
        open_folder(folder).read_prototypes()


def test_nothing_is_overwritten_unless_asked(folder: Path) -> None:
    with pytest.raises(
        OutputExists, match=(rf"^'{folder}' exists\. Name another place, or give overwrite=True\.$")
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
        OutputExists, match=(r"photos' is no model folder, so it is not overwritten\.")
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
