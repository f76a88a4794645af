"""The part of docs/speed.md about training: each table with what limits it, and how far from the
limit it is.
"""

from typing import Any

from speed_sections import place, table

from pauc_hub.cli.estimate import span


def beside_lightly(found: dict[str, Any]) -> str:
    """Images a second of each tool, and how near ours comes to its network alone."""
    tools, far = found["medians"]["tools"], found["how far from the limit"]
    times = found["ratios"]["images a second over lightly's"]
    rows = [
        (
            name,
            f"{figures['images_per_second']:,.1f}",
            f"{times.get(name, 1.0):.1f}",
            f"{figures['data_wait']:.0%}",
            f"{figures['estep_share']:.0%}",
            f"{figures['peak_mib']:,.0f}",
        )
        for name, figures in tools.items()
    ]
    settings, stems = found["settings"], found["backbone_gflop"]
    limits = " ".join(
        f"{name} reaches {of['share_of_network_alone']:.0%} of its network alone, and that "
        f"{of['network_alone_share_of_products']:.0%} of bare matrix products; 200 epochs of "
        "CIFAR-10 would take "
        f"{span(60 * of['minutes_of_200_epochs'])}."
        for name, of in far.items()
    )
    head = ("", "images a second", "times lightly's", "waiting for images", "E-step", "peak, MiB")
    return f"""
{table(head, rows)}
lightly's MoCo benchmark on CIFAR-10 from its published settings, and ours with the same: batches of
{settings["batch_size"]}, symmetric, one image through the backbone {stems["lightly's"]:.2f} GFLOP theirs and
{stems["ours"]:.2f} ours. Rates are those of whole epochs of {settings["steps"]} steps after the first.

What limits it is the network. {limits}

{place(found)}
"""  # noqa: E501


def augmentation(found: dict[str, Any]) -> str:
    """Images a second at each size, and how near ours comes to the speed of memory and of matrix
    products.
    """
    rows = [
        (
            f"{size} pixels",
            name,
            f"{figures['images_per_second']:,.0f}",
            f"{ratio(found, size, name):.1f}",
        )
        for size, tools in found["medians"]["sizes"].items()
        for name, figures in tools.items()
    ]
    limits = "; ".join(
        f"at {size} pixels ours moves {of['share_of_copying']:.0%} of what plain copies move, "
        "and its crops, "
        f"{of['cropping_share']:.0%} of the time, reach {of['crops_share_of_products']:.0%} of "
        "bare matrix products"
        for size, of in found["how far from the limit"].items()
    )
    return f"""
{table(("views", "", "images a second", "ours is faster by"), rows)}
Two views of each image, which lies decoded in memory: crop, flip, jitter, greyscale, blur, normalise. What limits it
is memory, passed over once for each of these, and matrix products: {limits}.

{place(found)}
"""  # noqa: E501


def ratio(found: dict[str, Any], size: str, name: str) -> float:
    """How many times faster ours is; 1 of itself."""
    return float(found["ratios"][size].get(name, 1.0))


def clustering(found: dict[str, Any]) -> str:
    told = on_gpu(found) if found["hardware"]["device"] == "cuda" else on_cpu(found)
    return f"{told}\n{place(found)}\n"


def on_cpu(found: dict[str, Any]) -> str:
    """Seconds an iteration of each library, from the same centroids."""
    rows, limits = [], []
    for size in found["results"]:
        seconds, objectives = size["seconds_per_iteration"], size["objective_after_long_run"]
        name = f"{size['points']:,} x {size['width']} in {size['clusters']:,}"
        rows += [
            (
                name,
                library,
                f"{seconds[library]:.3f}",
                f"{seconds[library] / seconds['torch']:.2f}",
                f"{objective:.4f}",
            )
            for library, objective in objectives.items()
        ]
        products = seconds["products_alone"]
        gflops = 2e-9 * size["points"] * size["clusters"] * size["width"] / products
        limits.append(
            f"of {name} ours takes {seconds['torch'] / products:.2f} times what the products "
            "take alone, which run at "
            f"{gflops / found['ceilings']['fp32_gflops']:.0%} of the speed of large square ones"
        )
    head = ("points in clusters", "", "s an iteration", "times ours", "objective")
    return f"""
{table(head, rows)}
What limits all of them are the products of points and centroids: {"; ".join(limits)}.
"""


def on_gpu(found: dict[str, Any]) -> str:
    """PCL's three clusterings of ImageNet."""
    rows, totals = [], {"fp32": 0.0, "bf16": 0.0}
    for size in found["results"]:
        precision = "bf16" if size["bf16"] else "fp32"
        totals[precision] += size["seconds"]
        gflop = 2e-9 * size["points"] * size["clusters"] * size["width"] * size["iterations"]
        share = gflop / size["seconds"] / found["ceilings"][f"{precision}_gflops"]
        rows.append(
            (
                f"{size['clusters']:,}",
                precision,
                f"{size['seconds']:.2f}",
                f"{share:.0%}",
                f"{size['objective']:.4f}",
                f"{size['peak_gib']:.1f}",
            )
        )
    size = found["results"][0]
    head = ("clusters", "products in", "s", "of bare products", "objective", "peak, GiB")
    return f"""
{table(head, rows)}
{size["points"]:,} points of width {size["width"]}, seeds and {size["iterations"]} iterations; all three take
{totals["fp32"]:.1f} s in fp32 and {totals["bf16"]:.1f} s in bf16. What limits it are the products of points and
centroids; the share is that of their speed which {size["iterations"]} passes alone would need.
"""  # noqa: E501


def scaling(found: dict[str, Any]) -> str:
    """Seconds of each part, and memory, against the number of images."""
    words = {
        "listing": "listing",
        "preparing": "reading",
        "features": "features",
        "kmeans": "k-means",
    }
    rows = [
        (
            f"{int(count):,}",
            *(f"{figures[part]:.1f}" for part in words),
            f"{figures['step']:.2f}",
            f"{figures['epoch_seconds']:.1f}",
            f"{figures['peak_mib']:,.0f}",
        )
        for count, figures in found["medians"]["counts"].items()
    ]
    growth, far = found["growth"], found["how far from the limit"]
    lines = "; ".join(
        (
            f"{word} {growth[name]['per_100000_images']:.1f} s ({growth[name]['residual']:.1f} off "
            "the line)"
        )
        for name, word in words.items()
    )
    memory, held, step = growth["peak_mib"], growth["held_mib"], growth["step"]["per_100000_images"]
    head = (
        "images",
        *(f"{word}, s" for word in words.values()),
        "a step, s",
        "an epoch's steps, s",
        "peak, MiB",
    )
    return f"""
{found["settings"]["images"]}; {found["settings"]["model"]}; clusters {list(found["settings"]["clusters"])}.

{table(head, rows)}
For each 100,000 images more: {lines}; a step {step:+.2f} s. Memory grows by {memory["per_100000_images"]:,.0f} MiB
({memory["residual"]:.0f} off the line), of which {held["per_100000_images"]:,.0f} are decoded images.

What limits it is the network: a step reaches {far["step_share_of_network_alone"]:.0%} of its forward and backward
passes alone, the features {far["features_share_of_forward_alone"]:.0%} of the forward pass alone.

{place(found)}
"""  # noqa: E501
