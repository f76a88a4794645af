"""The E-step: every image once, prototypes of all clusterings, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pauc_hub.errors import ClusteringFailed, PaucError, TooFewDistinct, TrainingFailed
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.sources.by_index import ImageSource, open_by_index
from pauc_hub.training.config import Config
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.estep import (
    Expectation,
    all_features,
    distinct_images,
    expect,
    reason_and_remedy,
    shuffled,
)
from pauc_hub.training.monitoring.diagnostics import diagnose, spread
from pauc_hub.training.networks.encoder import Encoder

CPU = torch.device("cpu")
Spoil = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def config(**changes: object) -> Config:
    return Config(clusters=(3, 9), kmeans="torch", kmeans_restarts=3, **changes)  # type: ignore[arg-type]


def blobs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """90 unit rows about three directions, sorted."""
    labels = torch.arange(3).repeat_interleave(30)
    noise = 0.1 * torch.randn(90, 16, generator=torch.Generator().manual_seed(seed))
    return F.normalize(torch.eye(3, 16)[labels] + noise, dim=1), labels


@pytest.mark.parametrize("workers", [1, 3])
def test_every_image_is_seen_exactly_once_and_in_order(tmp_path: Path, workers: int) -> None:
    for i in range(11):
        Image.fromarray(np.full((40, 32, 3), 20 * i, np.uint8)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "05.png").write_bytes(b"no image")
    torch.manual_seed(0)
    encoder = Encoder("test_resnet", 8)
    loader = Streamed(open_by_index(tmp_path), Preprocessing(size=32, crop_pct=1.0), workers, CPU)
    sizes: list[int] = []
    features, readable = all_features(encoder, loader, CPU, torch.float32, 4, sizes.append)
    assert sizes == [4, 4, 3]
    assert readable.tolist() == [i != 5 for i in range(11)]
    squares = torch.stack([torch.full((32, 32, 3), 20 * i, dtype=torch.uint8) for i in range(11)])
    with torch.no_grad():
        alone = encoder.eval()(loader.preprocessing.normalise(squares))
    keep = readable.nonzero().squeeze(1)
    assert torch.allclose(features[keep], alone[keep], atol=1e-4)


def test_the_encoder_is_back_in_training_mode_even_when_stopped(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{i}.png")
    encoder = Encoder("test_resnet", 8)
    loader = Streamed(open_by_index(tmp_path), Preprocessing(size=32), 1, CPU)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        all_features(encoder, loader, CPU, torch.float32, 2, stop)
    assert encoder.training


def test_prototypes_of_every_clustering_coarse_to_fine() -> None:
    features, labels = blobs()
    found = expect(features, torch.ones(90, dtype=torch.bool), config(), epoch=1)
    assert [len(p.sizes) for p in found.prototypes] == [3, 9]
    assert [int(p.sizes.sum()) for p in found.prototypes] == [90, 90]
    # the three blobs
    assert len(set(zip(found.assignments[0].tolist(), labels.tolist(), strict=True))) == 3
    assert found.prototypes[0].parents is None
    parents = found.prototypes[1].parents
    assert parents is not None
    # the blobs' parts lie in their blob
    assert torch.equal(parents[found.assignments[1]], found.assignments[0])
    for prototypes in found.prototypes:
        assert torch.allclose(
            prototypes.centroids.norm(dim=1), torch.ones(len(prototypes.sizes)), atol=1e-5
        )
        assert prototypes.concentrations.mean().item() == pytest.approx(
            config().temperature, rel=1e-5
        )


def test_unreadable_images_take_no_part() -> None:
    features, _ = blobs()
    readable = torch.ones(90, dtype=torch.bool)
    readable[[0, 50]] = False
    polluted = features.clone()
    polluted[[0, 50]] = float("nan")
    found = expect(polluted, readable, config(), epoch=1)
    assert int(found.prototypes[0].sizes.sum()) == 88
    assert len(found.assignments[0]) == 90
    same = expect(features[readable], torch.ones(88, dtype=torch.bool), config(), epoch=1)
    assert torch.equal(found.assignments[1][readable], same.assignments[1])


def test_the_same_epoch_clusters_alike_and_another_epoch_draws_anew() -> None:
    features = F.normalize(torch.randn(90, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    everything = torch.ones(90, dtype=torch.bool)
    first, again, later = (
        expect(features, everything, config(), epoch).assignments[1] for epoch in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (
            lambda z, r: (torch.full_like(z, float("nan")), r),
            TrainingFailed,
            "no longer finite: training diverged",
        ),
        (
            lambda z, r: (z[:1].repeat(90, 1), r),
            TooFewDistinct,
            "90 points hold 1 distinct ones: too few for 3",
        ),
        (
            lambda z, r: (z[:4].repeat(25, 1)[:90], r),
            TooFewDistinct,
            "90 points hold 4 distinct ones: too few for 9",
        ),
        (
            lambda z, r: (z, torch.arange(90) < 8),
            ClusteringFailed,
            "only 8 of 90 images .* fewer than clusters=9",
        ),
    ],
)
def test_what_cannot_be_clustered_is_said_in_one_line(
    spoil: Spoil, kind: type[PaucError], message: str
) -> None:
    features, _ = blobs()
    spoilt, readable = spoil(features, torch.ones(90, dtype=torch.bool))
    with pytest.raises(kind, match=message):
        expect(spoilt, readable, config(), epoch=1)


@pytest.mark.parametrize(
    ("differing", "distinct", "reason", "remedy"),
    [
        (12, 1, "the features have collapsed", "Try a lower lr"),
        (12, 4, "the features have collapsed", "Try a lower lr"),
        (
            4,
            4,
            "only 4 of 12 images are distinct, too few for clusters=5",
            "give clusters of at most 3, or train with",
        ),
        (
            2,
            2,
            "only 2 of 12 images are distinct",
            "Remove the copies, or train with objective='infonce'",
        ),
    ],
)
def test_copies_are_told_from_collapse_by_the_images(
    tmp_path: Path, differing: int, distinct: int, reason: str, remedy: str
) -> None:
    for i in range(12):
        Image.new("RGB", (40, 32), (20 * (i % differing), 0, 0)).save(tmp_path / f"{i:02}.png")
    loader = Streamed(open_by_index(tmp_path), Preprocessing(size=32, crop_pct=1.0), 1, CPU)
    told = reason_and_remedy(TooFewDistinct(distinct, 12, 5), loader)
    assert reason in told[0]
    assert remedy in told[1]


def test_other_reasons_are_as_they_were_found(twelve: ImageSource) -> None:
    loader = Streamed(twelve, Preprocessing(size=32), 1, CPU)
    reason, remedy = reason_and_remedy(ClusteringFailed("only 8 of 90 images can be read."), loader)
    assert reason == "only 8 of 90 images can be read."
    assert remedy.startswith("Remove what cannot be read")
    assert distinct_images(loader) == 10  # the two that are no images are not compared


# --- diagnostics ---------------------------------------------------------------------------------


def test_spread_by_hand() -> None:
    features = torch.tensor([[0.0], [2.0], [10.0]])
    found = spread(features, torch.tensor([0, 0, 1]), 2)
    assert found["intra_variance"] == pytest.approx(1.0)  # the pair; the singleton does not count
    mean = 4.0
    assert found["inter_variance"] == pytest.approx((2 * (1 - mean) ** 2 + (10 - mean) ** 2) / 3)
    assert found["intra_share"] == pytest.approx(1.0 / (1.0 + 18.0))


def test_coagulated_features_have_a_smaller_intra_share() -> None:
    features, labels = blobs()
    centres = torch.stack([features[labels == c].mean(dim=0) for c in range(3)])[labels]
    coagulated = centres + 0.1 * (features - centres)
    assert (
        spread(coagulated, labels, 3)["intra_share"]
        < 0.2 * spread(features, labels, 3)["intra_share"]
    )


def test_diagnose_measures_what_the_method_watches() -> None:
    features, _ = blobs()
    everything = torch.ones(90, dtype=torch.bool)
    now, before = (expect(features, everything, config(), epoch) for epoch in (1, 2))
    found = diagnose(features, everything, now, None, config())
    assert set(found) == {
        "intra_variance",
        "inter_variance",
        "intra_share",
        "effective_rank",
        "uniformity",
        "size_entropy",
        "empty",
        "singletons",
    }
    assert found["empty"] == 9 - len(now.prototypes[-1].sizes)
    assert 0 < diagnose(features, everything, now, before, config())["assignment_nmi"] <= 1
    assert diagnose(features, everything, now, now, config())["assignment_nmi"] == pytest.approx(
        1.0
    )


def test_a_shuffled_expectation_has_the_same_clusters_of_other_images_each_epoch() -> None:
    assignments = (torch.arange(60) // 20, torch.arange(60) // 10)
    given = Expectation((), assignments)
    found, again, later = shuffled(given, 0, 3), shuffled(given, 0, 3), shuffled(given, 0, 4)
    for mine, same, other, before in zip(
        *(each.assignments for each in (found, again, later, given)), strict=True
    ):
        assert mine.bincount().tolist() == before.bincount().tolist()
        assert mine.equal(same)
        assert not mine.equal(other)
        assert not mine.equal(before)
    assert (found.assignments[1] // 2).equal(found.assignments[0])  # they nest as before
