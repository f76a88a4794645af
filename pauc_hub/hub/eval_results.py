"""Scores for the leaderboards of the Hub's benchmark datasets: `.eval_results/*.yaml`, beside the
card's model-index.

The layout is that of the Hub's documentation, docs/hub/eval-results.md in huggingface/hub-docs. A
dataset has to be registered there as a benchmark, with an id for each of its tasks; of other scores
nothing is written.
"""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

from pauc_hub.errors import ModelFolderError
from pauc_hub.models.folder import FACTS
from pauc_hub.models.front_matter import slug

PREFIX = ".eval_results/pauc-hub-"


def eval_results(facts: Mapping[str, Any]) -> dict[str, bytes]:
    """Path in the repository to content; a file for each score, as the Hub wants several of one
    benchmark.

    Args:
        facts: of a model; a score that belongs to a benchmark has `benchmark`: its `id` and
            `task_id` on the Hub.

    Raises:
        ModelFolderError: a `benchmark` that lacks one of these.
    """
    files = {}
    for score in facts.get("scores", ()):
        if not (benchmark := score.get("benchmark")):
            continue
        if not isinstance(benchmark, dict) or not {"id", "task_id"} <= benchmark.keys():
            raise ModelFolderError(
                f"{FACTS} has a score whose benchmark lacks id or task_id: {benchmark}."
            )
        entry = EvalResultEntry(
            dataset_id=benchmark["id"],
            task_id=benchmark["task_id"],
            value=score["value"],
            dataset_revision=benchmark.get("revision"),
            notes=f"{score['metric']}, {score['protocol']}, {score.get('space', 'backbone')} space",
        )
        name = slug(
            f"{benchmark['id']} {benchmark['task_id']} {score['protocol']} {score['metric']}"
        )
        files[f"{PREFIX}{name}.yaml"] = yaml_dump(eval_result_entries_to_yaml([entry])).encode()
    return files
