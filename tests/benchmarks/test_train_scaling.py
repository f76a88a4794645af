"""Lines against the number of images, and how near to the network alone."""

import pytest
from train_scaling import BATCH, growth, summarise


def run(images: int, memory: float) -> dict[str, float]:
    """1 ms an image for each part, 2 s for the start; a step takes half a second."""
    parts = dict.fromkeys(("listing", "preparing", "features", "kmeans"), 2 + images / 1000)
    return parts | {
        "step": 0.5,
        "epoch_seconds": 0.5 * images / BATCH,
        "peak_mib": memory,
        "held_mib": memory / 2,
    }


COUNTS = {10_000: [run(10_000, 600.0)], 30_000: [run(30_000, 800.0), run(30_000, 810.0)]}


def test_growth_takes_every_repetition() -> None:
    found = growth(COUNTS)
    assert found["features"] == pytest.approx(
        {"per_100000_images": 100, "to_start": 2, "residual": 0}, abs=1e-9
    )
    assert found["step"] == pytest.approx(
        {"per_100000_images": 0, "to_start": 0.5, "residual": 0}, abs=1e-9
    )
    memory = {"per_100000_images": 1025, "to_start": 497.5, "residual": (50 / 3) ** 0.5}
    assert found["peak_mib"] == pytest.approx(memory)


def test_shares_are_those_with_most_images() -> None:
    alone = {"images_per_second": BATCH * 2.0, "forward_images_per_second": 3000.0}
    found = summarise({"network alone": [alone], "counts": COUNTS})
    assert found["medians"]["counts"][30_000]["peak_mib"] == 805
    assert found["how far from the limit"] == pytest.approx(
        {"step_share_of_network_alone": 0.5, "features_share_of_forward_alone": 30_000 / 32 / 3000}
    )
