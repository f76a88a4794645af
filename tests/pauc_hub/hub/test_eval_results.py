"""Scores of benchmarks that the Hub knows, beside the card; they come and go with the facts, and
pull leaves them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from huggingface_hub import parse_eval_result_entries
from yaml import safe_load  # type: ignore[import-untyped]

from pauc_hub.errors import ModelFolderError
from pauc_hub.files.checksums import file_sum
from pauc_hub.hub.eval_results import eval_results
from pauc_hub.hub.pull import pull
from pauc_hub.hub.push import push

ME = "me/tiny"
SCORE: dict[str, Any] = {
    "protocol": "weighted kNN, k = 200",
    "metric": "top-1 %",
    "space": "backbone",
    "value": 18.1,
    "benchmark": {"id": "some/pets", "task_id": "knn"},
}
NAME = ".eval_results/pauc-hub-some-pets-knn-weighted-knn-k-200-top-1.yaml"
pytestmark = [
    pytest.mark.usefixtures("writer"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


def test_each_score_of_a_benchmark_is_a_file() -> None:
    other = SCORE | {
        "value": 20.0,
        "benchmark": SCORE["benchmark"] | {"task_id": "linear", "revision": "ab12"},
    }
    files = eval_results(
        {"scores": [SCORE, other, {"protocol": "kNN", "metric": "top-1 %", "value": 3.0}]}
    )
    assert list(files) == [NAME, NAME.replace("pets-knn", "pets-linear")]
    (first,), (second,) = (parse_eval_result_entries(safe_load(data)) for data in files.values())
    assert (first.dataset_id, first.task_id, first.value) == ("some/pets", "knn", 18.1)
    assert first.notes == "top-1 %, weighted kNN, k = 200, backbone space"
    assert (second.task_id, second.value, second.dataset_revision) == ("linear", 20.0, "ab12")


def test_half_a_benchmark_is_refused() -> None:
    with pytest.raises(
        ModelFolderError,
        match=r"a score whose benchmark lacks id or task_id: {'id': 'some/pets'}\.$",
    ):
        eval_results({"scores": [SCORE | {"benchmark": {"id": "some/pets"}}]})


def with_scores(folder: Path, scores: list[dict[str, Any]]) -> None:
    """Change the facts, and put the new sum into SHA256SUMS."""
    old = file_sum(folder / "facts.json")
    (folder / "facts.json").write_text(json.dumps({"name": "tiny", "scores": scores}))
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(old, file_sum(folder / "facts.json")))


def test_they_are_pushed_and_removed_with_the_scores(
    hub: HubServer, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    with_scores(folder, [SCORE])
    assert NAME in push(folder, ME, dry_run=True).files
    assert NAME in push(folder, ME, quiet=True).changed
    assert hub.repositories[ME].commits[-1].files[NAME] == eval_results({"scores": [SCORE]})[NAME]
    assert push(folder, ME, quiet=True).changed == ()
    back = pull(ME, tmp_path / "back", quiet=True).output
    assert {path.name for path in back.iterdir()} == {path.name for path in folder.iterdir()}
    with_scores(folder, [])
    assert NAME in push(folder, ME, quiet=True).changed
    assert NAME not in hub.repositories[ME].commits[-1].files
