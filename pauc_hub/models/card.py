"""The model card: facts.json in plain words, for people and for the Hub. It claims nothing that is
not in the facts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pauc_hub.models.front_matter import front_matter

_Facts = Mapping[str, Any]

LEARNT = {
    "infonce": "to tell each image from all others (InfoNCE)",
    "protonce": (
        "to tell each image from all others and to draw it to the prototype of its cluster "
        "(PCL's ProtoNCE)"
    ),
    "pauc": (
        "to tell each image from all others while the prototypes of clusters align, spread and "
        "decorrelate (PAUC)"
    ),
}
PCL_IMAGES = 1_281_167 * 200  # ImageNet's training split, 200 epochs: what PCL's authors trained on
OWN_READING = (
    "Of the PAUC paper (Mo, Sun, Li, BMVC 2022) only the abstract was at hand, which names its "
    "three terms and gives "
    "no formula. **The formulas are this project's own reading** (docs/method.md, section 4), "
    "so these scores are not "
    "that paper's."
)
PATENT = (
    "PCL's training loop, clustering and contrastive learning in turn, is claimed by a US "
    "patent (11,263,476), which a "
    "commercial user should know."
)
PAPERS = {
    "moco": "K. He, H. Fan, Y. Wu, S. Xie, R. Girshick: *Momentum Contrast for Unsupervised Visual "
    "Representation "
    "Learning*, CVPR 2020, arXiv 1911.05722",
    "pcl": "J. Li, P. Zhou, C. Xiong, S. Hoi: *Prototypical Contrastive Learning of Unsupervised "
    "Representations*, "
    "ICLR 2021, arXiv 2005.04966",
    "pauc": "S. Mo, Z. Sun, C. Li: *Rethinking Prototypical Contrastive Learning through "
    "Alignment, Uniformity and "
    "Correlation*, BMVC 2022, arXiv 2210.10194",
}
CITED = {"infonce": ("moco",), "protonce": ("moco", "pcl"), "pauc": ("moco", "pcl", "pauc")}
COMPARED = "Beside {which} stands the same network with random weights, under the same protocol."
# Seen in `make interop`, of numbers up to 3.5; less than 1e-5 is demanded.
LARGEST_DIFFERENCE = "1.2e-6"
UNKNOWN = "–"  # of a random network, where none was measured
SCORE_COLUMNS = (
    "protocol",
    "metric",
    "value",
    "random",
    "space",
    "resolution",
    "bank",
    "queries",
    "seed",
)


def render_card(facts: _Facts) -> str:
    """README.md of a model folder: Markdown with the Hub's front matter.

    Args:
        facts: as facts.json has them: name, architecture, command, commit, config, data, hardware,
            versions, seconds, epochs, scores, and where known license, license_link, data.datasets
            (ids on the Hub), notes and prototypes (the number of each clustering); schedules that
            were laid anew; unfinished where it was made of a checkpoint on the way; curves, the
            name of the picture of its curves beside the card.
    """
    parts = (_front_matter, _summary, score_section, _usage, _limits, _citations, _receipts)
    return "\n\n".join(part(facts) for part in parts) + "\n"


def _front_matter(facts: _Facts) -> str:
    return front_matter(facts, ["contrastive-learning", _objective(facts)])


def _summary(facts: _Facts) -> str:
    data, machine = facts["data"], _machine(facts["hardware"])
    return f"""# {facts["name"]}

An image backbone ({facts["architecture"]}) that learnt, without labels, {LEARNT[_objective(facts)]}.
{_unfinished(facts)}
- **Data**: {data["name"]}, {data["images"]:,} images, seen at {facts["config"]["size"]} px.
- **Training**: {_epochs(facts)} in {_duration(facts["seconds"])} on {machine}. {_how_short(facts)}{_curves(facts)}"""  # noqa: E501


def _curves(facts: _Facts) -> str:
    return f"\n\n![Curves of the training]({facts['curves']})" if facts.get("curves") else ""


def _unfinished(facts: _Facts) -> str:
    if not (place := facts.get("unfinished")):
        return ""
    after = f"epoch {place['epoch']}" + (f" and {place['step']} steps" if place["step"] else "")
    return f"""
**Unfinished**: made of a checkpoint after {after} of {place["epochs"]} epochs, before the learning rate had
fallen to 0. Expect more of the finished run.
"""  # noqa: E501


def _epochs(facts: _Facts) -> str:
    place = facts.get("unfinished")
    return (
        f"{facts['epochs']} of {place['epochs']} epochs" if place else f"{facts['epochs']} epochs"
    )


def _how_short(facts: _Facts) -> str:
    seen = facts["data"]["images"] * facts["epochs"]
    told = f"It saw {seen:,} images, repeats counted"
    if seen >= PCL_IMAGES:
        return f"{told}."
    share = f"{100 * seen / PCL_IMAGES:.2g} % of the {PCL_IMAGES:,} that PCL's authors trained on"
    return f"{told}: {share}. **Expect accordingly less.**"


def score_section(facts: _Facts) -> str:
    """What was measured, and what measures it again."""
    scores = facts.get("scores")
    if not scores:
        return "## Scores\n\nNone were measured."
    commands = dict.fromkeys(score["command"] for score in scores)
    return "\n".join(
        [
            "## Scores",
            "",
            *_compared(scores),
            (
                "| protocol | metric | this model | random network | space | resolution | bank | "
                "queries | seed |"
            ),
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(score_row, scores),
            "",
            "To reproduce:",
            "",
            *(f"    {command}" for command in commands),
        ]
    )


def _compared(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of what the scores beside are, if there are any."""
    beside = ["random" in score for score in scores]
    if not any(beside):
        return []
    return [COMPARED.format(which="each" if all(beside) else "some"), ""]


def score_row(score: Mapping[str, Any]) -> str:
    """A score's line in the table of the card, with the 95 % interval where there is one."""
    cells = {column: str(score.get(column, UNKNOWN)) for column in SCORE_COLUMNS}
    if "low" in score:
        cells["value"] += f" ({score['low']} to {score['high']})"
    return f"| {' | '.join(cells.values())} |"


def _usage(facts: _Facts) -> str:
    name = facts["name"]
    by_name = f"""With pauc-hub, which brings the weights along and needs no network:

```python
import pauc_hub, timm

backbone = timm.create_model("{name}", pretrained=True).eval()
embeddings = pauc_hub.load("{name}").embed(["cat.jpg", "dog.jpg"])  # with the right preprocessing; float32
```

"""  # noqa: E501
    plain = "Plain timm reads this folder without pauc-hub:"
    imports = "import timm"
    besides = "import"
    if facts["architecture"].startswith("pauc_"):  # one of ours, as the stem is
        plain = "timm reads this folder once pauc-hub is imported:"
        imports = "import pauc_hub, timm"
        besides = "import pauc_hub  # registers the architecture\nimport"
    return f"""## Use

{by_name if _is_bundled(name) else ""}On the command line, a folder of images to a table:

    pauc embed images/ -m {name if _is_bundled(name) else "path/to/this/folder"}

{plain}

```python
{imports}

backbone = timm.create_model("local-dir:path/to/this/folder", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(backbone), is_training=False)
```

transformers and sentence-transformers read it, too. Their embeddings are those of pauc-hub in fp32; the largest
difference in its tests is {LARGEST_DIFFERENCE}:

```python
{besides} transformers

extract = transformers.pipeline("image-feature-extraction", model="path/to/this/folder", pool=True)
embeddings = extract(["cat.jpg", "dog.jpg"])  # for each image a list of one embedding
```

```python
{besides} sentence_transformers
from PIL import Image

model = sentence_transformers.SentenceTransformer("path/to/this/folder")
embeddings = model.encode([Image.open("cat.jpg"), Image.open("dog.jpg")])
```

From the Hugging Face Hub it is `hf-hub:owner/name` for timm and pauc-hub, and `owner/name` for the other two.

The features are pooled from the last stage; compare them by their cosine. {_projection(facts)}"""  # noqa: E501


def _projection(facts: _Facts) -> str:
    if facts.get("prototypes") == []:
        return (
            "projector.safetensors leads from them to the\nspace that it was trained in; there "
            "are no prototypes."
        )
    return (
        "projector.safetensors leads from them to the\nspace in which the prototypes of "
        "prototypes.safetensors lie."
    )


def _limits(facts: _Facts) -> str:
    data = facts["data"]
    points = [
        (
            f"It has seen only {data['name']}, at {facts['config']['size']} px: try it on your own "
            "images first."
        )
    ]
    if terms := data.get("terms"):
        points.append(f"Terms of the data: {terms}")
    if _objective(facts) == "pauc":
        points.append(OWN_READING)
    if _objective(facts) != "infonce":
        points.append(PATENT)
    return "\n".join(
        ["## What to know", "", *(f"- {point}" for point in [*points, *facts.get("notes", [])])]
    )


def _citations(facts: _Facts) -> str:
    return "\n".join(
        ["## Citation", "", *(f"- {PAPERS[paper]}" for paper in CITED[_objective(facts)])]
    )


def _receipts(facts: _Facts) -> str:
    data = facts["data"]
    kept = (
        f"; {data['kept_out']} more were kept out to calibrate the prototypes"
        if data.get("kept_out")
        else ""
    )
    code = f"commit {facts['commit']}" if facts["commit"] else "an installed package"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in facts["config"].items())
    return f"""## Receipts

    {facts["command"]}
{_schedules(facts)}
- Code: {code}; {versions}.
- Data: sha256 of the list of images {data["list_sha256"]}; {data["unreadable"]} files could not be read{kept}.
- Settings: {settings}.

facts.json has all of this for machines; `sha256sum -c SHA256SUMS` checks every file."""  # noqa: E501


def _schedules(facts: _Facts) -> str:
    """Commands that went on for longer, and from where."""
    return "".join(
        f"    {laid['command']}  # from epoch {laid['epoch'] + 1}, step {laid['step']} on: "
        f"{laid['epochs']} epochs in place of {laid['before']}, the learning rate along a "
        "cosine over them\n"
        for laid in facts.get("schedules", ())
    )


def _objective(facts: _Facts) -> str:
    return str(facts["config"]["objective"])


def _is_bundled(name: str) -> bool:
    """Only bundled models are named `pauc_arch.tag`; any other run is named after its folder."""
    return name.startswith("pauc_") and "." in name


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _machine(hardware: Mapping[str, Any]) -> str:
    if hardware["device"] == "cpu":
        return f"{hardware['cores']} cores of a CPU ({hardware['name']})"
    return f"one GPU ({hardware['name']})"


def _plain(value: Any) -> str:
    return " / ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
