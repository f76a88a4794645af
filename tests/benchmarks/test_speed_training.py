"""The tables about training, from made-up results."""

from typing import Any

import speed_training

HARDWARE = {"device": "cpu", "name": "Some", "cores": 2, "memory_gb": 8}
FROM = {"hardware": HARDWARE, "commit": "abc", "command": "python some.py --repetitions 3"}


def test_beside_lightly() -> None:
    tool = {"images_per_second": 10.0, "data_wait": 0.25, "estep_share": 0.0, "peak_mib": 2000.0}
    far = {
        "share_of_network_alone": 0.8,
        "network_alone_share_of_products": 0.3,
        "minutes_of_200_epochs": 5.5,
    }
    found: dict[str, Any] = FROM | {
        "medians": {"tools": {"theirs": tool, "ours": tool | {"images_per_second": 45.0}}},
        "ratios": {"images a second over lightly's": {"ours": 4.5}},
        "how far from the limit": {"ours": far},
        "settings": {"batch_size": 512, "steps": 4},
        "backbone_gflop": {"ours": 0.5, "lightly's": 1.25},
    }
    told = speed_training.beside_lightly(found)
    assert "| theirs | 10.0 | 1.0 | 25% | 0% | 2,000 |" in told
    assert "| ours | 45.0 | 4.5 | 25% | 0% | 2,000 |" in told
    assert "ours reaches 80% of its network alone, and that 30% of bare" in told
    assert "200 epochs of CIFAR-10 would take 5 min 30 s." in told
    assert "1.25 GFLOP theirs and\n0.50 ours" in told


def test_augmentation() -> None:
    found: dict[str, Any] = FROM | {
        "medians": {
            "sizes": {
                "32": {
                    "ours": {"images_per_second": 5000.0},
                    "theirs": {"images_per_second": 500.0},
                }
            }
        },
        "ratios": {"32": {"theirs": 10.0}},
        "how far from the limit": {
            "32": {"share_of_copying": 0.02, "cropping_share": 0.5, "crops_share_of_products": 0.4}
        },
    }
    told = speed_training.augmentation(found)
    assert "| 32 pixels | ours | 5,000 | 1.0 |" in told
    assert "| 32 pixels | theirs | 500 | 10.0 |" in told
    assert "moves 2% of what plain copies move, and its crops, 50% of the time, reach 40%" in told


def test_kmeans_on_a_cpu() -> None:
    size = {
        "points": 50_000,
        "width": 128,
        "clusters": 1000,
        "seconds_per_iteration": {"products_alone": 0.2, "torch": 0.25, "faiss-cpu": 0.5},
        "objective_after_long_run": {"torch": 0.5, "faiss-cpu": 0.5},
    }
    told = speed_training.clustering(FROM | {"ceilings": {"fp32_gflops": 128.0}, "results": [size]})
    assert "| 50,000 x 128 in 1,000 | torch | 0.250 | 1.00 | 0.5000 |" in told
    assert "| 50,000 x 128 in 1,000 | faiss-cpu | 0.500 | 2.00 | 0.5000 |" in told
    # 64 of 128 GFLOP/s
    assert "ours takes 1.25 times what the products take alone, which run at 50% of" in told


def test_kmeans_on_a_gpu() -> None:
    size = {
        "points": 10**6,
        "width": 100,
        "clusters": 10**4,
        "iterations": 20,
        "objective": 0.5,
        "peak_gib": 2.0,
    }
    result = FROM | {
        "hardware": HARDWARE | {"device": "cuda"},
        "ceilings": {"fp32_gflops": 80_000.0, "bf16_gflops": 400_000.0},
        "results": [size | {"bf16": False, "seconds": 1.0}, size | {"bf16": True, "seconds": 0.5}],
    }
    told = speed_training.clustering(result)
    assert "| 10,000 | fp32 | 1.00 | 50% | 0.5000 | 2.0 |" in told  # 40 TFLOP
    assert "| 10,000 | bf16 | 0.50 | 20% | 0.5000 | 2.0 |" in told


def test_scaling() -> None:
    parts = {
        "listing": 1.0,
        "preparing": 2.0,
        "step": 0.5,
        "epoch_seconds": 20.0,
        "features": 4.0,
        "kmeans": 5.0,
    }
    line = {"per_100000_images": 7.5, "to_start": 0.0, "residual": 0.25}
    found: dict[str, Any] = FROM | {
        "medians": {"counts": {"10000": parts | {"peak_mib": 1500.0}}},
        "growth": dict.fromkeys([*parts, "peak_mib", "held_mib"], line)
        | {"peak_mib": line | {"residual": 3.0}},
        "how far from the limit": {
            "step_share_of_network_alone": 0.9,
            "features_share_of_forward_alone": 0.7,
        },
        "settings": {"images": "Small ones", "model": "resnet18", "clusters": [10, 20]},
    }
    told = speed_training.scaling(found)
    assert "| 10,000 | 1.0 | 2.0 | 4.0 | 5.0 | 0.50 | 20.0 | 1,500 |" in told
    assert "reading 7.5 s (0.2 off the line)" in told
    assert "a step reaches 90%" in told
    assert "the features 70%" in told
