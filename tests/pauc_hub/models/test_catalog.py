"""What -m and load() take: names, folders, and the line that answers anything else."""

import json
from pathlib import Path

import pytest

from pauc_hub.errors import MissingWeights, PaucError, UnknownModel
from pauc_hub.models.catalog import (
    RUN_CONFIG,
    RUN_METRICS,
    RUN_MODEL,
    Located,
    Repository,
    TimmName,
    available_models,
    locate,
)
from pauc_hub.models.entry import ModelEntry
from pauc_hub.training.run import run_folder


@pytest.fixture(autouse=True)
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the real weights: one bundled folder, described by its receipts, and an empty
    working directory.
    """
    folder = tmp_path / "weights" / "pauc_resnet18.pets"
    folder.mkdir(parents=True)
    config = {
        "architecture": "resnet18",
        "num_features": 512,
        "pretrained_cfg": {"input_size": [3, 96, 96]},
        "pauc": {"objective": "pauc"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "facts.json").write_text(
        json.dumps({"epochs": 7, "data": {"name": "pets", "images": 3680}})
    )
    monkeypatch.setattr("pauc_hub.models.bundled.BUNDLED", folder.parent)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_lists_bundled_models_and_architectures_without_weights(bundled: Path) -> None:
    assert available_models() == [
        ModelEntry(
            "pauc_resnet18.pets",
            True,
            "resnet18, 512 numbers from 96 px; pauc, 7 epochs on 3680 images",
        ),
        ModelEntry("pauc_resnet18_cifar", False, "resnet18 with a CIFAR stem; no weights yet"),
        ModelEntry(
            "pauc_resnet18_cifar_pool",
            False,
            "resnet18 with a CIFAR stem that keeps the max-pool; no weights yet",
        ),
        ModelEntry("pauc_resnet50", False, "resnet50; no weights yet"),
        ModelEntry("pauc_resnet50_cifar", False, "resnet50 with a CIFAR stem; no weights yet"),
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"epochs": 1, "data": 3}'])
def test_a_damaged_folder_does_not_spoil_the_list(bundled: Path, content: str) -> None:
    (bundled / "facts.json").write_text(content)
    assert available_models()[0].description.startswith("damaged (")


@pytest.mark.parametrize("name", ["pauc_resnet18", "pauc_resnet18.pets"])
def test_a_name_is_a_bundled_folder_even_beside_a_folder_of_that_name(
    bundled: Path, name: str
) -> None:
    assert locate(name) == Located(bundled)
    Path(name).mkdir()
    assert locate(name) == Located(
        bundled, f"'{name}' is the bundled model; the folder of that name is './{name}'."
    )
    assert (
        locate(f"./{name}")
        == locate(Path(name))
        == locate(f"local-dir:{name}")
        == Located(Path(name))
    )


REFUSED = [
    (
        "pauc_resnet50",
        MissingWeights,
        "there are no weights for pauc_resnet50 yet, only for: pauc_resnet18.pets.",
    ),
    (
        "pauc_resnet5",
        UnknownModel,
        "unknown model 'pauc_resnet5'. Did you mean 'pauc_resnet50'? `pauc models` lists all.",
    ),
    (
        "pauc_resnet18.pet",
        UnknownModel,
        (
            "unknown model 'pauc_resnet18.pet'. Did you mean 'pauc_resnet18.pets'? `pauc models` "
            "lists all."
        ),
    ),
    (
        "a/b",
        UnknownModel,
        (
            "unknown model 'a/b': there is no such folder. A repository on the Hugging Face Hub is "
            "written hf-hub:a/b."
        ),
    ),
    ("some/runs/7", UnknownModel, "unknown model 'some/runs/7': there is no such folder."),
    (
        "hf-hub:resnet50",
        UnknownModel,
        (
            "'hf-hub:resnet50' names no repository. Write hf-hub:owner/name or "
            "hf-hub:owner/name@revision."
        ),
    ),
    ("local-dir:nowhere", UnknownModel, "there is no folder 'nowhere'."),
    (
        "resnet50.a1_ink1",
        UnknownModel,
        (
            "unknown model 'resnet50.a1_ink1'. Did you mean 'resnet50.a1_in1k'? `pauc models` "
            "lists all."
        ),
    ),
    (
        "timm/resnt50",
        UnknownModel,
        "unknown model 'timm/resnt50'. Did you mean 'resnet50'? `pauc models` lists all.",
    ),
    (
        "convnextv2_small",
        MissingWeights,
        (
            "timm has no pretrained weights for convnextv2_small. `pauc models --timm "
            "'convnextv2*'` lists similar ones."
        ),
    ),
    ("weights.pth", UnknownModel, "'weights.pth' is a file, not a model folder."),
]


NAMED = [
    ("resnet50", TimmName("resnet50.a1_in1k")),
    ("resnet50.tv_in1k", TimmName("resnet50.tv_in1k")),
    ("timm/resnet50.tv_in1k", TimmName("resnet50.tv_in1k")),
    # deprecated: timm maps it
    ("tv_resnet50", TimmName("resnet50.tv_in1k")),
    ("hf-hub:some-body/a.b_c", Repository("some-body/a.b_c")),
    ("hf-hub:me/it@v1.0", Repository("me/it", "v1.0")),
    ("hf-hub:me/it@refs/pr/1", Repository("me/it", "refs/pr/1")),
]


@pytest.mark.parametrize(("name", "place"), NAMED, ids=[row[0] for row in NAMED])
def test_names_of_timm_and_of_the_hub(name: str, place: object) -> None:
    assert locate(name) == Located(place)  # type: ignore[arg-type]


def test_a_name_of_timm_goes_before_a_folder_and_says_so() -> None:
    Path("resnet50").mkdir()
    note = "'resnet50' is the timm model; the folder of that name is './resnet50'."
    assert locate("resnet50") == Located(TimmName("resnet50.a1_in1k"), note)
    assert locate("./resnet50") == Located(Path("resnet50"))


def test_what_is_no_name_of_timm_is_a_folder_and_timm_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "pauc_hub.models.timm_registry.find_pretrained", lambda _: pytest.fail("imported timm")
    )
    for name in ("mine", "Mine", "a-b"):
        Path(name).mkdir()
        assert locate(name) == Located(Path(name))


def test_a_run_is_its_model() -> None:
    assert (RUN_METRICS, RUN_CONFIG, RUN_MODEL) == (
        run_folder.METRICS,
        run_folder.CONFIG,
        run_folder.MODEL,
    )
    run = Path("run")
    run.mkdir()
    (run / RUN_CONFIG).touch()
    (run / RUN_METRICS).touch()
    with pytest.raises(UnknownModel) as refusal:
        locate(run)
    assert str(refusal.value) == (
        "the run in 'run' has no model yet. `pauc train IMAGES -o run --export` makes one of "
        "its last "
        "checkpoint; --resume in place of --export finishes it."
    )
    (run / RUN_MODEL).mkdir()
    assert locate(run) == locate("run") == Located(run / RUN_MODEL)


@pytest.mark.parametrize(("name", "error", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_answers_anything_else_in_one_line(name: str, error: type[PaucError], message: str) -> None:
    Path("weights.pth").touch()
    with pytest.raises(error) as refusal:
        locate(name)
    assert str(refusal.value) == message
