"""Weights join the bundled ones: a second folder that is there, or an entry that says where on the
Hub they are.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from hub_repositories import Fault
from hub_server import HubServer
from huggingface_hub import constants
from timm.models import _registry, generate_default_cfgs, register_model

import pauc_hub
from pauc_hub.cli import run
from pauc_hub.errors import HubError
from pauc_hub.files.checksums import file_sum
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.models import backbones, bundled, hub_weights
from pauc_hub.models.catalog import DEFAULT_MODEL, Located, available_models, locate
from pauc_hub.models.folder import open_folder
from pauc_hub.models.hub_weights import HUB_WEIGHTS, HubWeights
from pauc_hub.models.opening import open_model
from pauc_hub.models.write_folder import write_folder

OURS = bundled.ARCHITECTURES
NAME, REPOSITORY = "pauc_resnet50.made", "me/resnet50-made"
REGISTRIES = [
    name
    for name, value in vars(_registry).items()
    if name.startswith("_m") and isinstance(value, dict | set)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a ResNet-50 with random weights, for images of 64 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("resnet50", num_classes=0)
    return write_folder(
        tmp_path_factory.mktemp("made") / NAME,
        architecture="resnet50",
        backbone=network.state_dict(),
        num_features=2048,
        preprocessing=Preprocessing(size=64, crop_pct=0.9).to_config(),
        pauc={"objective": "pauc", "dim": 16, "clusters": [], "resolution": 64},
        projector=None,
        prototypes=[],
        facts={"name": NAME, "license": "apache-2.0", "epochs": 3, "data": {"images": 10}},
        card="",
        half=True,
    )


@pytest.fixture
def register_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Registers our architectures again with what there is now; afterwards timm's registry is what
    it was.
    """
    for name in REGISTRIES:
        monkeypatch.setattr(_registry, name, copy(getattr(_registry, name)))

    def register() -> None:
        monkeypatch.setattr(
            backbones, "default_cfgs", generate_default_cfgs(backbones._default_cfgs())
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Overwriting pauc_", UserWarning)
            for name in OURS:
                register_model(getattr(backbones, name))

    return register  # type: ignore[return-value]


@pytest.fixture
def second_folder(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, register_anew: Callable[[], None]
) -> Path:
    """The package with one more bundled folder than it has."""
    weights = tmp_path / "weights"
    weights.mkdir()
    for folder in (*bundled.bundled_folders(), made):
        if bundled.architecture_of(folder.name) != "pauc_resnet50" or folder == made:
            (weights / folder.name).symlink_to(folder)
    monkeypatch.setattr(bundled, "BUNDLED", weights)
    register_anew()
    return weights / NAME


@pytest.fixture
def listed(
    hub: HubServer,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    register_anew: Callable[[], None],
) -> HubWeights:
    """An entry for weights on the Hub; nothing is bundled for this architecture."""
    hub.add(REPOSITORY, {"README.md": b"an earlier commit"})
    commit = hub.add(REPOSITORY, made)
    hub.add(REPOSITORY, {"README.md": b"a later commit"})
    entry = HubWeights(NAME, REPOSITORY, commit, file_sum(made / "model.safetensors"), "cc-by-4.0")
    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path / "weights")
    monkeypatch.setattr(hub_weights, "HUB_WEIGHTS", (entry,))
    register_anew()
    return entry


@torch.no_grad()
def assert_holds(model: Any, folder: Path) -> None:
    """The model's weights are those of the folder, which is of 16 bits, and it is told how to use
    them.
    """
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    found = model.state_dict()
    assert found.keys() == stored.keys()
    assert all(
        torch.equal(found[name], tensor.to(found[name].dtype)) for name, tensor in stored.items()
    )
    # As config.json says; without it, only the architecture's usual 224 pixels are known.
    assert (model.pretrained_cfg["input_size"], model.pretrained_cfg["crop_pct"]) == (
        (3, 64, 64),
        0.9,
    )


def create(name: str) -> Any:
    return timm.create_model(name, pretrained=True)


def listing(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `pauc models` prints."""
    capsys.readouterr()
    assert run(["models", "--quiet"]) == 0
    rows = [line.partition("  ") for line in capsys.readouterr().out.splitlines()]
    return {name: description.strip() for name, _, description in rows}


def test_a_second_folder_is_bundled_by_being_there(
    second_folder: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert NAME in timm.list_models("pauc*", pretrained=True)
    assert timm.models.is_model_pretrained("pauc_resnet50")
    assert locate(NAME) == locate("pauc_resnet50") == Located(second_folder)
    assert_holds(create("pauc_resnet50"), made)
    shown = listing(capsys)
    assert shown[NAME] == "resnet50, 2048 numbers from 64 px; pauc, 3 epochs on 10 images"
    assert "pauc_resnet50" not in shown


def test_weights_on_the_hub_are_fetched_and_given_to_timm(listed: HubWeights, made: Path) -> None:
    for name in ("pauc_resnet50", NAME):
        cfg = timm.models.get_pretrained_cfg(name)
        assert cfg is not None
        assert (cfg.hf_hub_id, cfg.license) == (f"{REPOSITORY}@{listed.commit}", "cc-by-4.0")
    assert_holds(create(NAME), made)


def test_weights_on_the_hub_are_loaded_and_listed(
    listed: HubWeights, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    model = pauc_hub.load("pauc_resnet50", device="cpu", precision="fp32", quiet=True)
    assert (model.name, model.width, model.weights_sha256) == (NAME, 2048, listed.sha256)
    shown = listing(capsys)
    assert (
        shown[NAME] == f"resnet50; fetched from hf-hub:{REPOSITORY} at first use; licence cc-by-4.0"
    )
    assert "pauc_resnet50" not in shown
    # A commit never changes: the second time needs no network.
    hub.stop()
    assert open_model(NAME).weights_sha256 == listed.sha256


def test_bundled_weights_go_before_those_on_the_hub(
    second_folder: Path,
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    register_anew: Callable[[], None],
) -> None:
    other = HubWeights("pauc_resnet50.abc", REPOSITORY, "0" * 40, "0" * 64, "mit")
    monkeypatch.setattr(hub_weights, "HUB_WEIGHTS", (other,))
    register_anew()
    assert create("pauc_resnet50").pretrained_cfg["tag"] == "made"
    assert locate("pauc_resnet50") == Located(second_folder)
    assert locate(other.name) == Located(other)
    assert {NAME, other.name} <= {entry.name for entry in available_models()}
    assert hub.requests == []


def other_bytes(made: Path) -> bytes:
    tensors = safetensors.torch.load_file(made / "model.safetensors")
    return safetensors.torch.save({name: tensor + 1 for name, tensor in tensors.items()})


def with_weights(files: dict[str, bytes], weights: bytes) -> dict[str, bytes]:
    """The same folder with other weights, and a SHA256SUMS that says so."""
    old, new = (
        hashlib.sha256(data).hexdigest().encode() for data in (files["model.safetensors"], weights)
    )
    return files | {
        "model.safetensors": weights,
        "SHA256SUMS": files["SHA256SUMS"].replace(old, new),
    }


def ways_to_load() -> list[Callable[[], object]]:
    return [
        lambda: create(NAME),
        lambda: pauc_hub.load("pauc_resnet50", device="cpu", quiet=True),
    ]


def test_other_bytes_are_never_loaded_even_if_the_hub_vouches_for_them(
    listed: HubWeights, hub: HubServer, made: Path, tmp_path: Path
) -> None:
    """Other weights under the same commit, whose sums agree with each other and with the Hub's."""
    commit = hub.repositories[REPOSITORY].commit(listed.commit)
    assert commit is not None
    commit.files.update(with_weights(commit.files, other_bytes(made)))
    for load in ways_to_load():
        with pytest.raises(HubError) as refusal:
            load()
        assert str(refusal.value).startswith(
            f"the weights of {NAME} are not in the package but fetched, and '{REPOSITORY}' has "
            "a 'model.safetensors' "
            "whose sha256 is "
        )
        assert f", but this version of pauc-hub says {listed.sha256[:12]}…. It was removed" in str(
            refusal.value
        )
        assert list((tmp_path / "cache").rglob("model.safetensors")) == []
        assert not any(
            path.stat().st_size > 1e6 for path in (tmp_path / "cache").rglob("*") if path.is_file()
        )


def test_bytes_that_change_on_the_way_are_removed_and_fetched_again(
    listed: HubWeights, hub: HubServer, tmp_path: Path
) -> None:
    hub.faults["model.safetensors"] = Fault(changed=True, times=1)
    with pytest.raises(HubError, match="was damaged, and has been removed"):
        open_model(NAME, quiet=True)
    assert list((tmp_path / "cache").rglob("model.safetensors")) == []
    assert open_model(NAME, quiet=True).weights_sha256 == listed.sha256


@pytest.mark.parametrize("reason", ["offline", "no network"])
def test_a_missing_download_is_one_line(
    listed: HubWeights, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    start = f"the weights of {NAME} are not in the package but fetched, and "
    if reason == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        start += (
            f"'{REPOSITORY}' is not in the cache '{tmp_path / 'cache'}', and HF_HUB_OFFLINE "
            "forbids fetching it."
        )
    else:
        hub.stop()
        start += f"{hub.url} cannot be reached ("
    for load in ways_to_load():
        with pytest.raises(HubError) as refusal:
            load()
        assert str(refusal.value).startswith(start)
        assert "\n" not in str(refusal.value)


def test_every_entry_is_complete() -> None:
    assert len({entry.name for entry in HUB_WEIGHTS}) == len(HUB_WEIGHTS)
    for entry in HUB_WEIGHTS:
        assert bundled.architecture_of(entry.name) in OURS
        assert (len(entry.commit), len(entry.sha256)) == (40, 64)
        assert entry.licence


def knn(folder: Path) -> float:
    """Top-1 % by the protocol that all bundled cards have: the backbone's features of one data
    set.
    """
    scores: list[dict[str, Any]] = open_folder(folder).facts["scores"]
    found = [
        score["value"]
        for score in scores
        if "kNN" in score["protocol"]
        and score["space"] == "backbone"
        and "Tiny ImageNet" in score["queries"]
    ]
    assert found, (
        f"{folder.name} has no kNN score on Tiny ImageNet, by which the default model is chosen"
    )
    return float(max(found))


def test_the_default_is_the_strongest_bundled_model() -> None:
    scores = {folder.name: knn(folder) for folder in bundled.bundled_folders()}
    default = bundled.bundled_folder(DEFAULT_MODEL)
    assert default is not None
    strongest = max(scores, key=lambda name: scores[name])
    assert default.name == strongest, (
        f"DEFAULT_MODEL in models/catalog.py should be {strongest}: {json.dumps(scores)}"
    )
