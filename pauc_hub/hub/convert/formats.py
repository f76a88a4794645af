"""Where each project's checkpoints keep the backbone, the projection head and the prototypes: one
table entry a format.

A key is looked up by its prefix once the wrapper (`state_dict`, `model`, …) and a leading `module.`
are gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# lightly takes torchvision's ResNet apart, `nn.Sequential(*list(resnet.children())[:-1])`, and
# numbers its children.
SEQUENTIAL_RESNET = {
    "0.": "conv1.",
    "1.": "bn1.",
    "4.": "layer1.",
    "5.": "layer2.",
    "6.": "layer3.",
    "7.": "layer4.",
}


@dataclass(frozen=True)
class Format:
    """How one kind of checkpoint is laid out."""

    name: str
    backbone: str
    """Prefix of the backbone's keys."""
    marks: tuple[str, ...]
    """Prefixes that only this format has; all must occur for it to be recognised."""
    source: str
    """Where the layout is from."""
    licence: str | None = None
    """Of the published weights; None where the file's owner has to say."""
    head: str | None = None
    """Prefix of the projection head."""
    prototypes: tuple[str, ...] = ()
    """Keys of (K, D) prototypes in the head's space."""
    ignored: tuple[str, ...] = ()
    """Prefixes of what a backbone does not need: twin encoders, queues, classifiers."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Beginnings of the backbone's keys, and what timm calls them."""
    interpolation: str = "bilinear"
    crop_pct: float = 0.875


CHECKPOINT_FORMATS = (
    Format(
        name="moco-v3",
        backbone="base_encoder.",
        marks=("base_encoder.", "momentum_encoder."),
        ignored=("momentum_encoder.", "predictor.", "base_encoder.fc.", "base_encoder.head."),
        source="the key names of its published checkpoints",
        licence="CC-BY-NC-4.0",
    ),
    # PCL v1 and v2, HCSC, MoCo v1 and v2 share one layout; v1 has a head of one layer, v2 of two.
    Format(
        name="moco",
        backbone="encoder_q.",
        marks=("encoder_q.",),
        head="encoder_q.fc.",
        ignored=("encoder_k.", "queue"),
        source="salesforce/PCL, pcl/builder.py; gyfastas/HCSC has the same",
    ),
    Format(
        name="swav",
        backbone="",
        marks=("projection_head.", "prototypes."),
        head="projection_head.",
        prototypes=("prototypes.weight", "prototypes.prototypes0.weight"),
        ignored=("queue",),
        source="the key names of its published checkpoints",
        licence="CC-BY-NC-4.0",
    ),
    Format(
        name="dino",
        backbone="backbone.",
        marks=("backbone.", "head.last_layer."),
        ignored=("head.",),
        source="facebookresearch/dino, utils.py (MultiCropWrapper)",
        licence="Apache-2.0",
        interpolation="bicubic",
    ),
    Format(
        name="solo-learn",
        backbone="backbone.",
        marks=("backbone.conv1.", "classifier."),
        head="projector.",
        ignored=(
            "classifier.",
            "momentum_backbone.",
            "momentum_projector.",
            "momentum_classifier.",
            "predictor.",
            "prototypes.",
            "queue",
            "backbone.fc.",
        ),
        source="vturrisi/solo-learn, solo/methods/base.py",
    ),
    # Before its version 1.0.5.
    Format(
        name="solo-learn-encoder",
        backbone="encoder.",
        marks=("encoder.conv1.", "classifier."),
        head="projector.",
        ignored=("classifier.", "momentum_", "predictor.", "prototypes.", "queue", "encoder.fc."),
        source="vturrisi/solo-learn, solo/methods/base.py",
    ),
    Format(
        name="lightly",
        backbone="backbone.",
        marks=("backbone.0.", "backbone.4."),
        head="projection_head.layers.",
        ignored=(
            "backbone_momentum.",
            "projection_head_momentum.",
            "prediction_head.",
            "prototypes.",
            "criterion.",
            "backbone.9.",
        ),
        renamed=tuple(SEQUENTIAL_RESNET.items()),
        source="lightly-ai/lightly, examples/pytorch/moco.py",
    ),
    Format(
        name="torchvision",
        backbone="",
        marks=("conv1.", "layer4.", "fc."),
        ignored=("fc.",),
        source="pytorch/vision, torchvision/models/resnet.py",
    ),
    # DINO's ResNet-50 and ViT without heads come so, and whatever else has timm's or torchvision's
    # own names.
    Format(
        name="timm",
        backbone="",
        marks=(),
        ignored=("head.", "fc.", "classifier."),
        source="huggingface/pytorch-image-models, timm/models",
        interpolation="bicubic",
    ),
)


def recognise_format(keys: Iterable[str]) -> Format:
    """The first format of the table whose marks all occur; plain timm has none, and comes last."""
    known = tuple(keys)
    return next(
        layout
        for layout in CHECKPOINT_FORMATS
        if all(any(key.startswith(mark) for key in known) for mark in layout.marks)
    )
