"""What is drawn for views: distributed as torchvision's transforms draw it, by row, and the same
from one seed.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.transforms import v2

from pauc_hub.training.config import Config
from pauc_hub.training.data.views import ViewDraws, draw_views, epoch_batches

COUNT = 4000
Values = npt.NDArray[np.float64]


def draws(seed: int = 0, count: int = COUNT, **settings: object) -> ViewDraws:
    return draw_views(Config(**settings), count, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


def gap(ours: Values, theirs: Values) -> float:
    """Kolmogorov and Smirnov's statistic of two samples, as a share of what one chance in a million
    would give.
    """
    points = np.concatenate([ours, theirs])
    shares = [
        np.searchsorted(np.sort(each), points, side="right") / len(each) for each in (ours, theirs)
    ]
    return float(
        np.abs(shares[0] - shares[1]).max() / (2.7 * (1 / len(ours) + 1 / len(theirs)) ** 0.5)
    )


def torchvisions(transform: v2.Transform, name: str) -> Values:
    """What a transform draws for many images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.zeros(3, 8, 8)
        found = [transform.make_params([image])[name] for _ in range(COUNT)]
    return np.array(
        [each[0] if isinstance(each, (list, tuple)) else each for each in found], dtype=np.float64
    )


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_the_colours_change_as_torchvisions_jitter_has_it(name: str) -> None:
    jitter = (0.4, 0.3, 0.2, 0.1)
    found = draws(jitter=jitter, jitter_probability=1.0, grey=0.0)
    ours = getattr(found, name).numpy()
    theirs = torchvisions(v2.ColorJitter(*jitter), f"{name}_factor")
    assert gap(ours, theirs) < 1
    assert gap(ours, 1.2 * theirs) > 1  # it would be seen


def test_the_blur_is_as_wide_as_torchvisions_and_scales_with_the_view() -> None:
    theirs = torchvisions(v2.GaussianBlur(23, (0.1, 2.0)), "sigma")
    for size in (224, 28):
        ours = draws(size=size, blur=1.0).sigma.numpy() * 224 / size
        assert gap(ours, theirs) < 1
        assert gap(1.1 * ours, theirs) > 1


def test_a_blur_that_was_asked_for_does_not_scale_with_the_view() -> None:
    sigma = draws(size=32, blur=1.0, blur_sigma=(0.5, 1.5)).sigma
    assert sigma.min().item() == pytest.approx(0.5, abs=0.01)
    assert sigma.max().item() == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_each_change_is_as_frequent_as_asked(probability: float) -> None:
    names = ("flip", "jitter_probability", "grey", "blur")
    for name in names:
        settings: dict[str, Any] = dict.fromkeys(names, 0.5) | {name: probability}
        found = draws(**settings)
        moved = {
            "flip": found.mirrored,
            "jitter_probability": found.brightness != 1,
            "grey": found.saturation == 0,
            "blur": found.sigma > 0,
        }
        for other in names:
            wanted = probability if other == name else 0.5
            # 5 standard deviations
            assert moved[other].float().mean().item() == pytest.approx(wanted, abs=0.04)
        pairs = np.corrcoef([each.numpy() for key, each in moved.items() if key != name])
        assert np.abs(pairs - np.eye(3)).max() < 0.08


def test_an_image_is_jittered_in_all_or_not_at_all() -> None:
    found = draws(grey=0.0)
    moved = found.brightness != 1
    assert moved.float().mean().item() == pytest.approx(0.8, abs=0.03)
    for same in (found.contrast != 1, found.saturation != 1, found.hue != 0):
        assert same.equal(moved)
    chances = np.corrcoef(
        [each[moved].numpy() for each in (found.brightness, found.contrast, found.saturation)]
    )
    assert np.abs(chances - np.eye(3)).max() < 0.09


def test_the_generator_alone_decides() -> None:
    names = [field.name for field in fields(ViewDraws) if field.name != "size"]

    def same(a: ViewDraws, b: ViewDraws) -> bool:
        return all(getattr(a, name).equal(getattr(b, name)) for name in names)

    torch.manual_seed(1)
    first = draws(5)
    torch.manual_seed(2)
    assert same(draws(5), first)
    assert not any(getattr(draws(6), name).equal(getattr(first, name)) for name in names)
    assert same(first[torch.arange(COUNT)], first)
    assert not same(first[torch.arange(COUNT).flip(0)], first)
    assert len(first[3:7]) == 4


def test_batches_are_whole_and_show_each_image_once_an_epoch() -> None:
    config = Config(batch_size=4, size=32)
    batches = list(epoch_batches(config, 14, epoch=1))
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert len(set(torch.cat([batch.index for batch in batches]).tolist())) == 12
    again = list(epoch_batches(config, 14, epoch=1, first=1))
    assert [batch.index.tolist() for batch in again] == [
        batch.index.tolist() for batch in batches[1:]
    ]
    assert [batch.draws[1].hue.tolist() for batch in again] == [
        batch.draws[1].hue.tolist() for batch in batches[1:]
    ]
    for other in (
        epoch_batches(config, 14, epoch=2),
        epoch_batches(Config(batch_size=4, size=32, seed=1), 14, epoch=1),
    ):
        first = next(other)
        assert first.index.tolist() != batches[0].index.tolist()
        assert not first.draws[0].area.equal(batches[0].draws[0].area)
    assert not batches[0].draws[0].area.equal(batches[0].draws[1].area)  # views of their own
    assert not batches[0].draws[0].area.equal(batches[1].draws[0].area)


def test_a_part_of_a_batch_keeps_its_own_draws() -> None:
    batch = next(epoch_batches(Config(batch_size=6, size=32), 6, epoch=0))
    part = batch[2:5]
    assert part.index.equal(batch.index[2:5])
    assert part.draws[1].place.equal(batch.draws[1].place[2:5])
    assert part.draws[0].sigma.equal(batch.draws[0].sigma[2:5])


def test_small_views_come_besides_the_full_ones_which_stay_as_they_are() -> None:
    config = Config(batch_size=4, size=64, blur_sigma=(1.0, 2.0), blur=1.0)
    plain = next(epoch_batches(config, 8, epoch=1))
    batch = next(epoch_batches(replace(config, small_views=3), 8, epoch=1))
    assert [each.size for each in batch.draws] == [64, 64, 32, 32, 32]
    assert [
        each.area.equal(other.area) for each, other in zip(batch.draws, plain.draws, strict=False)
    ] == [True, True]
    places = [tuple(each.place.flatten().tolist()) for each in batch.draws]
    assert len(set(places)) == 5
    part = batch[1:3]
    assert [len(each) for each in part.draws] == [2] * 5
    assert part.draws[4].size == 32
    assert part.draws[4].area.equal(batch.draws[4].area[1:3])


@pytest.mark.parametrize(
    ("settings", "size", "least", "largest"),
    [
        ({"size": 224}, 112, 0.05, 0.2),
        ({"size": 64}, 32, 0.15, 0.4),
        ({"size": 64, "small_view_size": 40, "small_view_crop": (0.3, 0.5)}, 40, 0.3, 0.5),
    ],
)
def test_small_views_show_little_and_blur_in_proportion(
    settings: dict[str, Any], size: int, least: float, largest: float
) -> None:
    config = Config(**settings, blur=1.0, blur_sigma=(1.0, 2.0))
    found = draw_views(config, COUNT, torch.Generator().manual_seed(0), small=True)
    assert found.size == size
    assert found.area.min().item() == pytest.approx(least, abs=0.001)
    assert found.area.max().item() == pytest.approx(largest, abs=0.001)
    assert found.sigma.min().item() == pytest.approx(size / config.size, abs=0.01)
    assert found.sigma.max().item() == pytest.approx(2 * size / config.size, abs=0.01)


def test_with_progressive_resolution_views_are_of_the_epochs_side_and_blur_in_proportion() -> None:
    config = Config(
        batch_size=400,
        size=64,
        epochs=4,
        progressive_sizes=(32,),
        small_views=1,
        blur=1.0,
        blur_sigma=(1.0, 2.0),
    )
    for epoch, side in ((1, 32), (2, 64)):
        full, _, small = next(epoch_batches(config, 400, epoch)).draws
        assert (full.size, small.size) == (side, side // 2)
        assert full.sigma.max().item() == pytest.approx(2 * side / 64, abs=0.01)
        assert small.sigma.max().item() == pytest.approx(side / 64, abs=0.01)
