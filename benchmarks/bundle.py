"""Bundle a trained model: its folder, renamed, with scores and the data's terms, into
pauc_hub/weights and model_cards.

python benchmarks/bundle.py run/model pauc_resnet18.tiny_imagenet --score scores.json
    --data "Tiny ImageNet, training split" --terms "research only"
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pauc_hub.models.card import render_card
from pauc_hub.models.folder import CURVES, ModelFolder, open_folder
from pauc_hub.models.write_folder import write_folder

ROOT = Path(__file__).resolve().parent.parent
# Of pretrained_cfg.
KEPT = (
    "input_size",
    "pool_size",
    "crop_pct",
    "crop_mode",
    "interpolation",
    "mean",
    "std",
    "first_conv",
    "classifier",
)


def bundle(folder: ModelFolder, name: str, scores: list[Path], changes: dict[str, Any]) -> Path:
    """Write pauc_hub/weights/`name` and model_cards/`name`.md; the weights are those of `folder`,
    in fp16.

    Args:
        changes: facts that only people know.

    Raises:
        SystemExit: a score is of other weights.
    """
    results = [json.loads(path.read_text(encoding="utf-8")) for path in scores]
    for path, result in zip(scores, results, strict=True):
        if result["weights_sha256"] != folder.weights_sha256:
            raise SystemExit(f"{path} is a score of other weights than {folder.path}'s.")
    # Without any, those that `pauc eval --into-card` wrote are kept.
    told = [score for result in results for score in result["scores"]] or folder.facts["scores"]
    facts = folder.facts | changes | {"name": name, "scores": told}
    facts["data"] = folder.facts["data"] | changes["data"]
    bundled = write_folder(
        ROOT / "pauc_hub" / "weights" / name,
        architecture=folder.architecture,
        backbone=folder.read_backbone(),
        num_features=folder.num_features,
        preprocessing={
            key: value for key, value in folder.preprocessing_config.items() if key in KEPT
        },
        pauc={key: value for key, value in folder.pauc.items() if key != "format_version"},
        projector=folder.read_projector(),
        prototypes=folder.read_prototypes(),
        facts=facts,
        card=render_card(facts),
        half=True,
        curves=(folder.path / CURVES).read_bytes() if CURVES in folder.sums else None,
        overwrite=True,
    )
    (ROOT / "model_cards" / f"{name}.md").write_text(page(facts), encoding="utf-8")
    return bundled


def page(facts: Mapping[str, Any]) -> str:
    """The card as model_cards/ has it, from where the picture in the folder is shown."""
    return render_card(facts).replace(
        f"]({CURVES})", f"](../pauc_hub/weights/{facts['name']}/{CURVES})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what `pauc train` wrote")
    parser.add_argument("name", help="architecture.tag")
    parser.add_argument(
        "--score", type=Path, action="append", default=[], help="what scores.py wrote"
    )
    parser.add_argument("--data", required=True, help="the data set's name")
    parser.add_argument(
        "--dataset", action="append", default=[], help="the data set's id on the Hugging Face Hub"
    )
    parser.add_argument("--terms", required=True, help="under which terms the data may be used")
    parser.add_argument(
        "--command", help="what trains it anew, where the run's own receipts tell something else"
    )
    parser.add_argument("--note", action="append", default=[], help="a sentence for the card")
    arguments = parser.parse_args()
    folder = open_folder(arguments.folder)
    listed = {"datasets": arguments.dataset} if arguments.dataset else {}
    changes = {
        "data": {"name": arguments.data, "terms": arguments.terms, **listed},
        "notes": arguments.note,
        "command": arguments.command or folder.facts["command"],
    }
    print(bundle(folder, arguments.name, arguments.score, changes))


if __name__ == "__main__":
    main()
