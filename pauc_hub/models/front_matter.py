"""The part of a model card that the Hub reads: library, licence, tags, scores."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

TASK = "image-feature-extraction"
TAGS = ("timm", TASK, "self-supervised-learning", "pauc-hub")
# Licences that the Hub knows by these names; any other is `other`, with its own name beside it.
KNOWN = frozenset(
    {"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0"}
)


def front_matter(facts: Mapping[str, Any], tags: Sequence[str] = ()) -> str:
    """YAML between lines of dashes.

    Args:
        facts: name, and where known license, license_link, scores, and of the data `datasets`, ids
            on the Hub.
        tags: besides TAGS.
    """
    from huggingface_hub import ModelCardData  # takes time

    about = ModelCardData(
        library_name="timm",
        pipeline_tag=TASK,
        tags=[*TAGS, *tags],
        datasets=facts.get("data", {}).get("datasets"),
        **_licence(facts),
        **_index(facts),
    )
    return f"---\n{about.to_yaml()}\n---"


def with_scores(card: str, facts: Mapping[str, Any]) -> str:
    """A card whose front matter has the scores of the facts in its `model-index`, and all else as
    it is.

    Args:
        facts: as for front_matter().
    """
    from huggingface_hub import ModelCard, ModelCardData  # takes time

    if not card.startswith("---"):
        return f"{front_matter(facts)}\n\n{card}"
    found = ModelCard(card, ignore_metadata_errors=True)
    about: dict[str, Any] = cast(Any, found.data).to_dict()
    about.pop("model-index", None)
    found.data = ModelCardData(**about, **_index(facts))
    return str(found)


def _licence(facts: Mapping[str, Any]) -> dict[str, Any]:
    name = str(facts.get("license") or "other")
    if name.lower() in KNOWN:
        return {"license": name.lower()}
    named = {} if name == "other" else {"license_name": slug(name)}
    linked = {"license_link": facts["license_link"]} if facts.get("license_link") else {}
    return {"license": "other", **named, **linked}


def _index(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The scores as the Hub's `model-index`."""
    from huggingface_hub import EvalResult

    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=slug(str(score["queries"]).partition(",")[0]),
            dataset_name=str(score["queries"]),
            metric_type="accuracy"
            if str(score["metric"]).startswith("top-")
            else slug(str(score["metric"])),
            metric_name=f"{score['metric']}, {score['protocol']}, "
            f"{score.get('space', 'backbone')} space",
            metric_value=score["value"],
        )
        for score in facts.get("scores", ())
        if "queries" in score
    ]
    return {"model_name": facts["name"], "eval_results": results} if results else {}


def slug(text: str) -> str:
    """In small letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
