"""The model card says what the facts say: how short the training was, what a random network scores,
the terms.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bundle import page
from huggingface_hub import ModelCard, ModelCardData

from pauc_hub.models.bundled import bundled_folders
from pauc_hub.models.card import OWN_READING, PATENT, render_card
from pauc_hub.models.folder import open_folder

ROOT = Path(__file__).resolve().parents[3]
COMMAND = "pauc train tiny-imagenet-200/train -o run --size 64 --epochs 10"
SCORE = {
    "protocol": "weighted kNN, k = 200, T = 0.1, cosine",
    "metric": "top-1 %",
    "space": "backbone",
    "resolution": 64,
    "bank": "train, 100000",
    "queries": "val, 10000",
    "value": 18.1,
    "random": 4.2,
    "seed": 0,
    "command": "python benchmarks/knn.py",
}
FACTS: dict[str, Any] = {
    "name": "pauc_resnet18.tiny_imagenet",
    "architecture": "resnet18",
    "command": COMMAND,
    "commit": "abc1234",
    "config": {
        "objective": "pauc",
        "size": 64,
        "epochs": 10,
        "clusters": [2000, 4000, 8000],
        "symmetric": False,
    },
    "data": {"name": "train", "images": 100_000, "list_sha256": "0f0f", "unreadable": 3},
    "hardware": {"device": "cpu", "name": "Some CPU", "cores": 2, "memory_gb": 24},
    "versions": {"python": "3.11.7", "torch": "2.14.1"},
    "seconds": 5400.0,
    "epochs": 10,
    "scores": [SCORE],
}


def card(**changed: Any) -> str:
    return render_card({**FACTS, **changed})


def trained_by(objective: str) -> str:
    return card(config={**FACTS["config"], "objective": objective})


def about(**changed: Any) -> ModelCardData:
    """What the Hub reads."""
    data = ModelCard(card(**changed)).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_front_matter_is_what_the_hub_reads() -> None:
    found = about()
    assert (found.library_name, found.pipeline_tag) == ("timm", "image-feature-extraction")
    tags = [
        "timm",
        "image-feature-extraction",
        "self-supervised-learning",
        "pauc-hub",
        "contrastive-learning",
        "pauc",
    ]
    assert found.tags == tags


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, ("other", None, None)),
        ({"license": "Apache-2.0"}, ("apache-2.0", None, None)),
        (
            {"license": "Research only", "license_link": "https://example.org/terms"},
            ("other", "research-only", "https://example.org/terms"),
        ),
    ],
)
def test_licences_that_the_hub_does_not_know_have_a_name_and_a_link(
    given: dict[str, str], read: tuple[str, str | None, str | None]
) -> None:
    found = about(**given)
    assert (found.license, found.get("license_name"), found.get("license_link")) == read


def test_scores_are_in_the_model_index() -> None:
    found = about(data=FACTS["data"] | {"datasets": ["me/photos"]})
    assert (found.model_name, found.datasets) == (FACTS["name"], ["me/photos"])
    assert found.eval_results
    (result,) = found.eval_results
    assert (result.metric_value, result.metric_type, result.dataset_name) == (
        18.1,
        "accuracy",
        "val, 10000",
    )
    assert result.metric_name == "top-1 %, weighted kNN, k = 200, T = 0.1, cosine, backbone space"
    assert "model-index" not in card(scores=[])


def test_it_leads_to_prototypes_where_there_are_some() -> None:
    assert "prototypes of prototypes.safetensors" in card()
    assert "prototypes of prototypes.safetensors" in card(prototypes=[2000, 4000])
    assert "prototypes.safetensors" not in card(prototypes=[])
    assert "there are no prototypes" in card(prototypes=[])


def test_it_tells_data_duration_and_hardware() -> None:
    text = card()
    assert text.count("\n# pauc_resnet18.tiny_imagenet\n") == 1
    assert "- **Data**: train, 100,000 images, seen at 64 px.\n" in text
    assert "- **Training**: 10 epochs in 90 minutes on 2 cores of a CPU (Some CPU). " in text


@pytest.mark.parametrize(
    ("seconds", "hardware", "told"),
    [
        (
            61.0,
            {"device": "cpu", "name": "C", "cores": 8},
            "in 61 seconds on 8 cores of a CPU (C).",
        ),
        (9000.0, {"device": "cuda", "name": "G", "cores": 8}, "in 2.5 hours on one GPU (G)."),
    ],
)
def test_it_tells_other_hardware(seconds: float, hardware: dict[str, Any], told: str) -> None:
    assert told in card(seconds=seconds, hardware=hardware)


def test_it_tells_how_short_the_training_was() -> None:
    # 100,000 images 10 times are 0.39 % of 1,281,167 images 200 times
    told = (
        "It saw 1,000,000 images, repeats counted: 0.39 % of the 256,233,400 that PCL's "
        "authors trained on."
    )
    assert f"{told} **Expect accordingly less.**\n" in card()


def test_a_long_training_is_not_called_short() -> None:
    text = card(epochs=2563)
    assert "It saw 256,300,000 images, repeats counted.\n" in text
    assert "Expect accordingly" not in text


def test_scores_stand_beside_those_of_a_random_network() -> None:
    text = card(scores=[SCORE, SCORE | {"space": "projection", "value": 16.0}])
    header = (
        "| protocol | metric | this model | random network | space | resolution | bank | "
        "queries | seed |"
    )
    cells = "top-1 % | 18.1 | 4.2 | backbone | 64 | train, 100000 | val, 10000 | 0"
    row = f"| weighted kNN, k = 200, T = 0.1, cosine | {cells} |"
    assert f"\n{header}\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n{row}\n" in text
    assert "| top-1 % | 16.0 | 4.2 | projection | 64 |" in text
    assert text.count("    python benchmarks/knn.py\n") == 1


def test_scores_of_which_some_stand_beside_those_of_a_random_network() -> None:
    alone = {key: value for key, value in SCORE.items() if key != "random"} | {
        "low": 17.3,
        "high": 18.9,
    }
    text = card(scores=[SCORE, alone])
    assert "Beside some stands the same network with random weights" in text
    assert "| 18.1 (17.3 to 18.9) | – |" in text
    assert "random weights" not in card(scores=[alone])


def test_without_scores_it_says_that_none_were_measured() -> None:
    text = card(scores=[])
    assert "\n## Scores\n\nNone were measured.\n" in text
    assert "random network" not in text


@pytest.mark.parametrize(
    ("objective", "ours", "claimed"), [("infonce", 0, 0), ("protonce", 0, 1), ("pauc", 1, 1)]
)
def test_it_tells_whose_the_formulas_are_and_of_the_patent(
    objective: str, ours: int, claimed: int
) -> None:
    text = trained_by(objective)
    assert text.count(f"- {OWN_READING}\n") == ours
    assert text.count(f"- {PATENT}\n") == claimed


def test_an_unfinished_run_is_called_so() -> None:
    text = card(epochs=3, unfinished={"epoch": 3, "step": 40, "epochs": 10})
    assert (
        "\n\n**Unfinished**: made of a checkpoint after epoch 3 and 40 steps of 10 epochs, "
        "before the "
    ) in text
    assert "- **Training**: 3 of 10 epochs in " in text
    assert "It saw 300,000 images" in text
    assert "Unfinished" not in card()


def test_schedules_that_were_laid_anew_stand_in_the_receipts() -> None:
    laid = {
        "epoch": 10,
        "step": 0,
        "before": 10,
        "epochs": 30,
        "command": "pauc train x -o run --resume --epochs 30",
    }
    line = "30 epochs in place of 10, the learning rate along a cosine over them"
    assert (
        f"    {COMMAND}\n    {laid['command']}  # from epoch 11, step 0 on: {line}\n\n- Code: "
        in card(schedules=[laid])
    )


def test_terms_and_notes_are_told_where_there_are_any() -> None:
    text = card(
        data=FACTS["data"] | {"terms": "research alone."}, notes=["A longer run replaces it."]
    )
    assert "\n- Terms of the data: research alone.\n" in text
    assert "\n- A longer run replaces it.\n" in text
    assert "Terms of the data" not in card()


def test_a_bundled_model_is_loaded_by_its_name() -> None:
    text = card()
    assert 'timm.create_model("pauc_resnet18.tiny_imagenet", pretrained=True)' in text
    assert 'pauc_hub.load("pauc_resnet18.tiny_imagenet")' in text
    assert "    pauc embed images/ -m pauc_resnet18.tiny_imagenet\n" in text


def test_any_other_model_is_loaded_by_its_folder() -> None:
    text = card(name="run")
    assert "create_model(" in text
    assert 'create_model("run"' not in text
    assert "    pauc embed images/ -m path/to/this/folder\n" in text
    assert 'timm.create_model("local-dir:path/to/this/folder", pretrained=True)' in text


def test_receipts_name_command_code_data_and_every_setting() -> None:
    text = card()
    assert (
        f"\n## Receipts\n\n    {COMMAND}\n\n- Code: commit abc1234; python 3.11.7, torch 2.14.1.\n"
        in text
    )
    assert "- Data: sha256 of the list of images 0f0f; 3 files could not be read.\n" in text
    settings = "objective pauc, size 64, epochs 10, clusters 2000 / 4000 / 8000, symmetric False"
    assert f"- Settings: {settings}.\n" in text
    assert "- Code: an installed package; " in card(commit=None)


def test_a_folder_of_an_architecture_of_ours_is_not_promised_to_plain_timm() -> None:
    text = card(architecture="pauc_resnet18_cifar")
    assert (
        "timm reads this folder once pauc-hub is imported:\n\n```python\nimport pauc_hub, timm\n"
        in text
    )
    assert "without pauc-hub" not in text
    assert "Plain timm reads this folder without pauc-hub:\n\n```python\nimport timm\n" in card()


@pytest.mark.parametrize(
    ("objective", "papers"),
    [("infonce", ["1911.05722"]), ("pauc", ["1911.05722", "2005.04966", "2210.10194"])],
)
def test_it_cites_the_papers_of_its_objective(objective: str, papers: list[str]) -> None:
    text = trained_by(objective).partition("## Citation\n\n")[2].partition("\n\n")[0]
    assert [line.rpartition("arXiv ")[2] for line in text.splitlines()] == papers


def test_curves_are_shown_where_there_are_some() -> None:
    assert "\n\n![Curves of the training](curves.png)\n\n## Scores" in card(curves="curves.png")
    assert "curves.png" not in card()
    shown = page(FACTS | {"curves": "curves.png"})
    assert "](../pauc_hub/weights/pauc_resnet18.tiny_imagenet/curves.png)" in shown


def test_it_is_markdown_without_loose_ends() -> None:
    lines = card(unfinished={"epoch": 3, "step": 0, "epochs": 10}).splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert not any(first == second == "" for first, second in pairwise(lines))
    assert sum(line.startswith("```") for line in lines) % 2 == 0


@pytest.mark.parametrize("folder", bundled_folders(), ids=lambda folder: folder.name)
def test_bundled_models_carry_the_card_of_their_facts(folder: Path) -> None:
    expected = render_card(open_folder(folder).facts)
    assert (folder / "README.md").read_text() == expected
    assert (ROOT / "model_cards" / f"{folder.name}.md").read_text() == page(
        open_folder(folder).facts
    )


@pytest.mark.parametrize("folder", bundled_folders(), ids=lambda folder: folder.name)
def test_bundled_models_beat_a_random_network_by_far(folder: Path) -> None:
    scores = [score for score in open_folder(folder).facts["scores"] if "kNN" in score["protocol"]]
    assert scores
    assert all(score["value"] > 2 * score["random"] for score in scores)


@pytest.mark.parametrize("folder", bundled_folders(), ids=lambda folder: folder.name)
def test_bundled_models_tell_the_terms_of_their_data(folder: Path) -> None:
    assert (
        f"Terms of the data: {open_folder(folder).facts['data']['terms']}\n"
        in (folder / "README.md").read_text()
    )
