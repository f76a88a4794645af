"""docs/speed.md, from the newest results in benchmarks/results: no figure there is typed.

python benchmarks/speed_page.py
"""

from pathlib import Path
from typing import Any

import speed_answers
import speed_training
from speed_sections import place, section, table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "speed.md"
HEAD = """\
# How fast, and beside what

Made by `python benchmarks/speed_page.py` from the files in `benchmarks/results`, which hold every repetition, the
machine and all versions. Machines differ and are shared: trust the ratios of one run, and repeat it on yours.
"""  # noqa: E501


def against_peers(found: dict[str, Any]) -> str:
    """Each tool's whole process, and ours in how many times less time."""
    medians = found["medians"]
    tools = medians["all photographs"]
    ours = next(iter(tools.values()))["seconds"]
    rows = [
        (
            name,
            f"{figures['seconds']:.1f}",
            f"{figures['seconds'] / ours:.1f}",
            f"{figures['peak_mib']:.0f}",
            f"{medians['one photograph'][name]['seconds']:.1f}",
        )
        for name, figures in tools.items()
    ]
    bare = medians["bare import"]["seconds"]
    head = (f"{found['count']} photographs", "s", "times ours", "peak, MiB", "one photograph, s")
    return f"""
{table(head, rows)}
Whole processes, ResNet-50 at 224 pixels, random weights; start and end are included. Memory is the sum over a tool's
processes, shared pages divided among those that share them. `import torch, timm` alone takes {bare:.1f} s here.
What limits `pauc embed` is the network, then the decoders; the others also leave cores idle while they start and load.

{place(found)}
"""  # noqa: E501


def alone(found: dict[str, Any]) -> str:
    """How near the engine comes to the network alone."""
    m = found["medians"]
    best = 1 / (1 / m["forward_rate"] + 1 / m["decode_rate"])
    reached, share = m["after_start_rate"] / best, m["share_of_forward"]
    return f"""
After its start `pauc embed` does {m["after_start_rate"]:.0f} photographs a second. The network alone, on all cores,
does {m["forward_rate"]:.0f}, the decoders alone {m["decode_rate"]:.0f}; the same cores do both, so {best:.0f} is the
most: {reached:.0%} of that is reached, and {share:.0%} of the network's own rate. One photograph from a cold start
takes {m["one_image_seconds"]:.1f} s, {m["one_image_over_import"]:.2f} times what `import torch, timm` takes alone.

{place(found)}
"""  # noqa: E501


def scaling(found: dict[str, Any]) -> str:
    """Time and memory against the number of images."""
    growth, medians = found["growth"], found["medians"]
    rows = [
        (f"{int(count):,}", f"{figures['seconds']:.0f}", f"{figures['peak_mib']:.0f}")
        for count, figures in medians["whole"].items()
    ]
    parts = [
        (
            name,
            f"{figures['seconds']:.1f}",
            f"{figures['images_per_second']:,.0f}",
            found["limits"][name],
        )
        for name, figures in medians["parts"].items()
    ]
    seconds, memory = growth["seconds_per_100000_images"], growth["mib_per_100000_images"]
    return f"""
{found["settings"]["images"]}; {found["settings"]["model"]}.

{table(("images", "s", "peak, MiB"), rows)}
{seconds:.0f} s and {memory:.0f} MiB for each 100,000 more; off the line by {growth["seconds_residual"]:.1f} s and
{growth["mib_residual"]:.0f} MiB.

{table(("50,000 images", "s", "a second", "limited by"), parts)}
{place(found)}
"""  # noqa: E501


def page() -> str:
    sections = (
        section("Photographs, beside other tools", "embed-against-peers", against_peers),
        section("How far that is from the limit: ResNet-50", "embed-photos-resnet50", alone),
        section("The same: ViT-S/16", "embed-photos-vit_small_patch16_224", alone),
        section("The same: ConvNeXt-T", "embed-photos-convnext_tiny", alone),
        section("Small images, and many", "embed-scaling", scaling),
        section("Training, beside lightly", "train-against-lightly", speed_training.beside_lightly),
        section("Augmentation, beside torchvision", "augmentation", speed_training.augmentation),
        section("k-means, beside other libraries", "kmeans", speed_training.clustering),
        section("Training on more images", "train-scaling", speed_training.scaling),
        section("Prototypes, beside scikit-learn and faiss", "cluster", speed_answers.clusters),
        section("Linear probe, beside scikit-learn", "probe", speed_answers.probe),
        section("Near-duplicates, beside faiss", "dedupe", speed_answers.duplicates),
    )
    return HEAD + "".join(sections)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
