"""What a run may be told: defaults, what follows from them, and every problem at once in one
line.
"""

import dataclasses
from collections import Counter
from typing import Any

import pytest

from pauc_hub.errors import UsageError
from pauc_hub.training import config as module
from pauc_hub.training.config import Config
from pauc_hub.training.derived import default_clusters, default_queue

IMAGES = 100_000


def refusal(images: int = IMAGES, **settings: Any) -> str:
    with pytest.raises(UsageError) as refused:
        Config(**settings).resolve(images)
    return str(refused.value)


@pytest.mark.parametrize(
    ("images", "clusters", "queue"),
    [
        # a batch at least; that there are too few images for one is another matter
        (100, (2, 4, 8), 256),
        (1000, (20, 40, 80), 256),
        (100_000, (2000, 4000, 8000), 16384),
    ],
)
def test_clusters_and_queue_follow_from_the_number_of_images(
    images: int, clusters: tuple[int, ...], queue: int
) -> None:
    assert default_clusters(images) == clusters
    assert default_queue(images, 256) == queue
    resolved = Config(batch_size=64, norm_group=32, kept_out=0).resolve(images)
    assert resolved.clusters == clusters
    assert resolved.queue == default_queue(images, 64)


def test_the_queue_holds_whole_steps_and_at_most_half_of_the_images() -> None:
    assert Config(batch_size=300).resolve(10_000).queue == 4800  # 16 batches
    # 8 times both views' keys
    assert Config(batch_size=300, symmetric=True).resolve(10_000).queue == 4800
    assert Config(batch_size=300, symmetric=True).resolve(7000).queue == 3000  # 5 times 600
    assert Config(batch_size=300).resolve(10**6).queue == 16200


@pytest.mark.parametrize("images", [20, 39, 55, 130, 999])
def test_default_clusters_have_ten_members_on_average_and_rise(images: int) -> None:
    clusters = default_clusters(images)
    assert min(clusters) >= 2
    assert clusters[-1] * 10 <= images
    assert list(clusters) == sorted(set(clusters))


def test_what_was_given_is_not_replaced() -> None:
    resolved = Config(clusters=(3, 5), queue=1000).resolve(IMAGES)
    assert (resolved.clusters, resolved.queue) == ((3, 5), 1000)


def test_there_is_a_first_epoch_without_prototypes_and_the_rate_follows_the_batch() -> None:
    assert [Config(epochs=epochs).warmup_epochs for epochs in (1, 4, 30, 100)] == [1, 1, 3, 10]
    assert Config(epochs=10, warmup=0.0).warmup_epochs == 1
    assert Config(batch_size=512, lr=0.1).peak_lr == pytest.approx(0.2)
    assert Config(batch_size=1024, lr=0.3, optimiser="lars").peak_lr == pytest.approx(1.2)
    assert Config(batch_size=1024, lr=0.001, optimiser="adamw").peak_lr == pytest.approx(0.002)


BLUR = " must be the least and the largest, in pixels above 0, at most size (224)"
JITTER = " must lie in [0, 1], the fourth, hue, in [0, 0.5]"
ONE_GROUP = (
    " does not hold two batch-norm groups of norm_group={}, and with one a query finds its key "
    "by their batch mates"
)
ONE_PIXEL = "whose last maps are 1 x 1 at 63"
RISING = " must be rising numbers, 32 or more and less than size (224)"
BAD_VALUES = [
    ({"objective": "moco"}, "objective='moco' is none of infonce, protonce, pauc"),
    (
        {"architecture": "resnet19"},
        "architecture='resnet19' is no network of timm's (did you mean 'resnet18'?)",
    ),
    (
        {"architecture": "test_vit", "size": 90},
        "size=90 is no multiple of the network's patches of 16 pixels: use 80 or 96",
    ),
    (
        {"architecture": "test_vit", "size": 96, "small_views": 2},
        "small_views=2 needs views of several sides, and architecture='test_vit' takes one alone",
    ),
    (
        {"architecture": "test_vit", "size": 96, "progressive_sizes": (64, 80)},
        (
            "progressive_sizes=64,80 needs views of several sides, and architecture='test_vit' "
            "takes one alone"
        ),
    ),
    ({"optimiser": "adam"}, "optimiser='adam' is none of sgd, lars, adamw"),
    ({"optimiser": "adamw"}, "lr=0.06 is too high for adamw: give 0.02 or less, about 0.001"),
    (
        {"accumulate": 5},
        "accumulate=5 must be 1 to 4, the batch-norm groups of a batch (batch_size / norm_group)",
    ),
    (
        {"accumulate": 0, "batch_size": 128},
        "accumulate=0 must be 1 to 2, the batch-norm groups of a batch (batch_size / norm_group)",
    ),
    ({"precision": "fp16"}, "precision='fp16' is none of auto, fp32, bf16"),
    ({"kmeans": "sklearn"}, "kmeans='sklearn' is none of auto, torch, faiss"),
    ({"size": 31}, "size=31 must be 32 or more"),
    ({"epochs": 0}, "epochs=0 must be 1 or more"),
    ({"batch_size": 63}, f"batch_size=63{ONE_GROUP.format(64)}: give batch_size=128 or more"),
    (
        {"batch_size": 100},
        f"batch_size=100{ONE_GROUP.format(64)}: give batch_size=128 or more, or norm_group=32",
    ),
    (
        {"batch_size": 63, "norm_group": 32},
        f"batch_size=63{ONE_GROUP.format(32)}: give batch_size=64 or more",
    ),
    ({"dim": 1}, "dim=1 must be 2 or more"),
    ({"negatives": 0}, "negatives=0 must be 1 or more"),
    ({"norm_group": 16}, "norm_group=16 must be 32 or more"),
    ({"kmeans_iterations": 0}, "kmeans_iterations=0 must be 1 or more"),
    ({"kmeans_restarts": 0}, "kmeans_restarts=0 must be 1 or more"),
    ({"seed": -1}, "seed=-1 must be 0 or more"),
    ({"lr": 0.0}, "lr=0 must be a finite number above 0"),
    ({"lr": float("nan")}, "lr=nan must be a finite number above 0"),
    ({"temperature": float("inf")}, "temperature=inf must be a finite number above 0"),
    ({"weight_decay": -0.1}, "weight_decay=-0.1 must be a finite number, 0 or more"),
    ({"weight_unif": float("inf")}, "weight_unif=inf must be a finite number, 0 or more"),
    ({"correlation_lambda": -1.0}, "correlation_lambda=-1 must be a finite number, 0 or more"),
    ({"momentum": 1.5}, "momentum=1.5 must lie in [0, 1]"),
    ({"warmup": -0.1}, "warmup=-0.1 must lie in [0, 1]"),
    ({"flip": float("nan")}, "flip=nan must lie in [0, 1]"),
    ({"crop_min": 0.0}, "crop_min=0 must lie above 0 and at most at 1"),
    (
        {"prototypes_from": "queue"},
        "prototypes_from='queue' is none of batch, batch_and_queue, bank",
    ),
    (
        {"prototypes_from": "bank", "weight_scatter": 0.1},
        (
            "weight_scatter needs prototypes of the batch: give weight_scatter=0 or "
            "prototypes_from='batch'"
        ),
    ),
    ({"weight_scatter": -0.1}, "weight_scatter=-0.1 must be a finite number, 0 or more"),
    ({"progressive_sizes": (64, 32)}, "progressive_sizes=64,32" + RISING),
    ({"progressive_sizes": (16,)}, "progressive_sizes=16" + RISING),
    ({"progressive_sizes": (64, 224)}, "progressive_sizes=64,224" + RISING),
    ({"progressive_share": 0.95}, "progressive_share=0.95 must lie in [0, 0.9]"),
    (
        {"small_views": 2, "progressive_sizes": (63,)},
        f"small_views=2 needs views of 64 pixels or more with architecture='resnet18', {ONE_PIXEL}",
    ),
    ({"small_views": -1}, "small_views=-1 must be 0 or more"),
    (
        {"small_view_crop": (0.0, 0.5)},
        "small_view_crop=0.0,0.5 must be the least and the largest, in (0, 1]",
    ),
    (
        {"small_view_crop": (0.5, 0.4)},
        "small_view_crop=0.5,0.4 must be the least and the largest, in (0, 1]",
    ),
    (
        {"small_views": 2, "small_view_size": 15},
        "small_view_size=15 must be 16 or more and less than size",
    ),
    (
        {"small_views": 2, "small_view_size": 224},
        "small_view_size=224 must be 16 or more and less than size",
    ),
    (
        {"small_views": 2, "size": 63},
        f"small_views=2 needs views of 64 pixels or more with architecture='resnet18', {ONE_PIXEL}",
    ),
    ({"blur_sigma": (0.0, 2.0)}, "blur_sigma=0.0,2.0" + BLUR),
    ({"blur_sigma": (2.0, 0.1)}, "blur_sigma=2.0,0.1" + BLUR),
    ({"blur_sigma": (0.1, 225.0)}, "blur_sigma=0.1,225.0" + BLUR),
    ({"blur_sigma": (0.1, float("nan"))}, "blur_sigma=0.1,nan" + BLUR),
    ({"jitter": (0.4, 0.4, 1.4, 0.1)}, "jitter=0.4,0.4,1.4,0.1" + JITTER),
    ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "jitter=0.4,0.4,0.4,0.6" + JITTER),
    ({"jitter": (0.4, float("nan"), 0.4, 0.1)}, "jitter=0.4,nan,0.4,0.1" + JITTER),
    ({"queue": 255}, "queue=255 must hold the 256 keys of a step at least"),
    ({"queue": 256, "symmetric": True}, "queue=256 must hold the 512 keys of a step at least"),
    ({"clusters": ()}, "clusters=(none) must be rising numbers, 2 or more"),
    ({"clusters": (500, 250)}, "clusters=500,250 must be rising numbers, 2 or more"),
    ({"clusters": (250, 250)}, "clusters=250,250 must be rising numbers, 2 or more"),
    ({"clusters": (1, 250)}, "clusters=1,250 must be rising numbers, 2 or more"),
    (
        {"clusters": (250, 25_000), "kept_out": 0.0},
        (
            "clusters=25000 needs at least 250000 images (10 each); there are 100000: give 10000 "
            "or less"
        ),
    ),
]


@pytest.mark.parametrize(
    ("settings", "problem"), BAD_VALUES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_bad_value_is_refused(settings: dict[str, Any], problem: str) -> None:
    assert refusal(**settings) == f"the configuration cannot be trained: {problem}."


@pytest.mark.parametrize(
    ("settings", "sides"),
    [
        ({}, {64: 20}),
        ({"progressive_sizes": (32,)}, {32: 10, 64: 10}),
        ({"progressive_sizes": (32, 48), "progressive_share": 0.6}, {32: 6, 48: 6, 64: 8}),
        ({"progressive_sizes": (32,), "progressive_share": 0.9}, {32: 18, 64: 2}),
        ({"progressive_sizes": (32,), "progressive_share": 0.0}, {64: 20}),
        # the last tenth has the full side, and be it one epoch
        ({"progressive_sizes": (32,), "progressive_share": 0.9, "epochs": 3}, {32: 2, 64: 1}),
        ({"progressive_sizes": (32,), "epochs": 1}, {64: 1}),
        ({"progressive_sizes": (32, 40, 48), "epochs": 4}, {32: 1, 40: 1, 64: 2}),
    ],
    ids=str,
)
def test_sides_rise_over_the_epochs(settings: dict[str, Any], sides: dict[int, int]) -> None:
    config = Config(**{"size": 64, "epochs": 20} | settings)
    found = [config.side_at(epoch) for epoch in range(config.epochs + 1)]
    assert found == sorted(found)
    assert Counter(found[:-1]) == sides


@pytest.mark.parametrize(
    ("architecture", "size"),
    [("resnet50", 64), ("pauc_resnet18_cifar", 32), ("pauc_resnet18_cifar_pool", 32)],
)
def test_small_views_are_allowed_where_maps_are_left_for_them(architecture: str, size: int) -> None:
    config = Config(architecture=architecture, size=size, small_views=4).resolve(IMAGES)
    assert config.small_view_side == size // 2


@pytest.mark.parametrize("batch_size", [1, 0, -3])
def test_a_batch_without_a_variance_is_refused(batch_size: int) -> None:
    assert refusal(batch_size=batch_size).startswith(
        f"the configuration cannot be trained: batch_size={batch_size} must be 2 or more; "
    )


@pytest.mark.parametrize(
    ("images", "batch_size", "norm_group"), [(63, 63, 32), (63, 20, 20), (20, 20, 64)]
)
def test_too_few_images_for_two_groups_may_be_one(
    images: int, batch_size: int, norm_group: int
) -> None:
    config = Config(batch_size=batch_size, norm_group=norm_group, clusters=(2,))
    assert config.problems(images) == []
    problems = dataclasses.replace(config, norm_group=min(batch_size, 32) - 1).problems(images)
    assert problems == [
        f"norm_group={min(batch_size, 32) - 1} must be {min(batch_size, 32)} or more"
    ]


def test_the_blur_scales_with_the_view_unless_it_was_given() -> None:
    assert Config(size=112).blur_range == pytest.approx((0.05, 1.0))
    assert Config(size=112, blur_sigma=(0.1, 2.0)).blur_range == (0.1, 2.0)


def test_all_problems_are_reported_at_once() -> None:
    assert refusal(images=12, objective="simclr", epochs=0, lr=-1.0, grey=2.0) == (
        "the configuration cannot be trained: objective='simclr' is none of infonce, protonce, "
        "pauc; "
        "epochs=0 must be 1 or more; lr=-1 must be a finite number above 0; grey=2 must lie in "
        "[0, 1]; "
        "batch_size=256 needs as many images; there are 12; "
        "clusters=2 needs at least 20 images (10 each); there are 12."
    )


def test_the_edges_of_the_ranges_are_allowed() -> None:
    settings: dict[str, Any] = {
        "size": 32,
        "epochs": 1,
        "batch_size": 2,
        "dim": 2,
        "queue": 2,
        "clusters": (2,),
        "crop_min": 1.0,
        "jitter": (0.0, 1.0, 1.0, 0.5),
        "warmup": 1.0,
        "lr_warmup": 0.0,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "optimiser": "adamw",
        "lr": 0.02,
    }
    assert Config(**settings).problems(20) == []


def test_faiss_is_refused_before_the_first_e_step_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "resolve_backend", lambda backend: "torch")
    assert refusal(kmeans="faiss") == (
        "the configuration cannot be trained: kmeans='faiss' is not installed: "
        "`pip install 'pauc-hub[faiss-cpu]'`, or leave it at auto."
    )
    monkeypatch.setattr(module, "resolve_backend", lambda backend: "faiss")
    assert Config(kmeans="faiss").resolve(IMAGES).kmeans == "faiss"
