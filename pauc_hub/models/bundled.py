"""Our architectures, and the weights that the package brings or names; needs no torch."""

from pathlib import Path

from pauc_hub.models import hub_weights

# one model folder for each `arch.tag`, named so
BUNDLED = Path(__file__).parents[1] / "weights"
# what timm is told of: the name, and what it is
ARCHITECTURES = {
    "pauc_resnet18": "resnet18",
    "pauc_resnet18_cifar": "resnet18 with a CIFAR stem",
    "pauc_resnet18_cifar_pool": "resnet18 with a CIFAR stem that keeps the max-pool",
    "pauc_resnet50": "resnet50",
    "pauc_resnet50_cifar": "resnet50 with a CIFAR stem",
}


def bundled_folders() -> list[Path]:
    """The model folders inside this package; of several for one architecture, the first is its
    default.
    """
    found = sorted(BUNDLED.iterdir()) if BUNDLED.is_dir() else []
    return [
        folder
        for folder in found
        if folder.is_dir() and architecture_of(folder.name) in ARCHITECTURES
    ]


def bundled_folder(name: str) -> Path | None:
    """Where the weights of `arch.tag`, or the default ones of `arch`, are bundled; None where they
    are not.
    """
    return next(
        (
            folder
            for folder in bundled_folders()
            if name in (folder.name, architecture_of(folder.name))
        ),
        None,
    )


def model_names() -> list[str]:
    """Every name that `timm.create_model` takes: the architectures, and each of their weights as
    `arch.tag`.
    """
    return sorted({*ARCHITECTURES, *(folder.name for folder in bundled_folders()), *_on_the_hub()})


def weights_names() -> list[str]:
    """`arch.tag` of all weights there are: the bundled ones, then those that are fetched from the
    Hub.
    """
    bundled = [folder.name for folder in bundled_folders()]
    return [*bundled, *(name for name in _on_the_hub() if name not in bundled)]


def _on_the_hub() -> list[str]:
    return [entry.name for entry in hub_weights.HUB_WEIGHTS]


def architecture_of(name: str) -> str:
    """`arch` of `arch.tag`."""
    return name.partition(".")[0]
