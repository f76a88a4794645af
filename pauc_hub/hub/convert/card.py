"""The card of a converted model: where it is from, under which terms, how to use it."""

from collections.abc import Mapping
from typing import Any

from pauc_hub.models.card import score_section
from pauc_hub.models.front_matter import front_matter

USAGE = """```python
import timm

backbone = timm.create_model("local-dir:path/to/this/folder", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(backbone), is_training=False)
```"""  # noqa: E501


def render_converted(facts: Mapping[str, Any], *, projector: bool, prototypes: bool) -> str:
    """README.md of a converted model folder.

    Args:
        facts: as facts.json has them.
        projector, prototypes: whether the folder holds them.
    """
    source = facts["converted"]
    besides = [
        name
        for name, there in (("projection head", projector), ("prototypes", prototypes))
        if there
    ]
    held = f", with its {' and '.join(besides)}" if besides else ""
    left_out = f"{len(source['dropped'])} tensors that a backbone does not need"
    if source["strangers"]:
        left_out += (
            f", and {len(source['strangers'])} of unknown purpose: "
            f"{', '.join(source['strangers'][:5])}"
        )
    terms = f" {facts['terms']}" if facts["terms"] else ""
    return f"""{front_matter(facts)}

# {facts["name"]}

An image backbone ({facts["architecture"]}{held}), converted from a checkpoint of format {source["format"]}.
It was **not trained by pauc-hub**; whoever uses it should cite those who did.

- **Source**: {source["file"]}, sha256 {source["sha256"]}
- **Licence of the weights**: {facts["license"]}.{terms}
- **Left out**: {left_out}.

{score_section(facts)}

## Use

    pauc embed images/ -m path/to/this/folder

{USAGE}

## Receipts

    {facts["command"]}

- {", ".join(f"{name} {number}" for name, number in facts["versions"].items())}
- Layout of the checkpoint: {source["layout"]}
"""  # noqa: E501
