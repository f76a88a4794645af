"""Both sides' epochs are counted alike, ratios stand the right way up, and the files are the
source's own.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from measuring import Watched
from network_alone import backbone_gflop, network_alone
from train_against_lightly import LIGHTLY, SETTINGS, copy_images, figures, pauc_train, summarise

from pauc_hub.training.config import Config
from pauc_hub.training.settings import from_mapping

METRICS = """{"epoch": 0, "step": 2, "loss": 1.0}
{"epoch": 1, "step": 0, "images_per_second": 10.0, "mstep_seconds": 4.0, "data_wait": 0.5}
{"epoch": 2, "step": 0, "images_per_second": 20.0, "mstep_seconds": 2.0, "data_wait": 0.25, "estep_seconds": 0.5}
"""  # noqa: E501


def test_epochs_after_the_first_count() -> None:
    epochs = [
        {"seconds": 99.0, "images": 100, "data_wait": 1.0},
        {"seconds": 8.0, "images": 100, "data_wait": 0.5, "estep_seconds": 2.0},
        {"seconds": 12.0, "images": 100, "data_wait": 0.0, "estep_seconds": 3.0},
    ]
    assert figures(epochs) == {
        "images_per_second": 10.0,
        "data_wait": 0.2,
        "seconds_for_50000": 25 * 50_000 / 200,
        "estep_share": 0.2,
    }


def test_ours_is_read_from_the_epochs_of_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(*command: str) -> Watched:
        run = Path(command[command.index("-o") + 1])
        run.mkdir()
        (run / "metrics.jsonl").write_text(METRICS)
        return Watched(seconds=9.0, cpu_seconds=9.0, peak_mib=300.0, stdout="")

    monkeypatch.setattr("train_against_lightly.watch", pretend)
    given: Any = SimpleNamespace(architecture="resnet18", batch_size=4, epochs=2, device="cpu")
    found = pauc_train(tmp_path, tmp_path, given, "fp32")
    assert found["images_per_second"] == pytest.approx(20)
    assert found["estep_share"] == pytest.approx(0.5 / 2.5)
    assert found["peak_mib"] == 300
    assert 'precision = "fp32"' in (tmp_path / "settings.toml").read_text()


def test_the_settings_are_ours_by_name() -> None:
    config = from_mapping(SETTINGS, "here")
    assert config.symmetric
    assert config.lr == 2 * Config().lr


def of_tool(rate: float, **more: float) -> dict[str, float]:
    shared = {"data_wait": 0.1, "estep_share": 0.0, "seconds_for_50000": 50_000 / rate}
    return {"images_per_second": rate, "peak_mib": 1.0} | shared | more


def test_ratios_and_limits_by_hand() -> None:
    runs = {
        "ceilings": [{"fp32_gflops": 100.0, "bf16_gflops": 400.0, "copy_gb_per_second": 5.0}],
        "network alone": {
            "fp32": [{"images_per_second": 50.0, "gflops": 25.0}],
            "bf16": [{"images_per_second": 90.0, "gflops": 40.0}],
        },
        "tools": {
            LIGHTLY: [of_tool(10.0), of_tool(11.0), of_tool(2.0)],
            "pauc train fp32": [of_tool(40.0)],
            "pauc train bf16": [of_tool(60.0)],
        },
    }
    found = summarise(runs)
    ratios = found["ratios"]["images a second over lightly's"]
    assert ratios == {"pauc train fp32": 4.0, "pauc train bf16": 6.0}
    far = found["how far from the limit"]
    assert far["pauc train fp32"]["share_of_network_alone"] == pytest.approx(0.8)
    assert far["pauc train fp32"]["network_alone_share_of_products"] == pytest.approx(0.25)
    assert far["pauc train bf16"]["share_of_network_alone"] == pytest.approx(60 / 90)
    assert far["pauc train bf16"]["network_alone_share_of_products"] == pytest.approx(0.1)
    assert far["pauc train bf16"]["minutes_of_200_epochs"] == pytest.approx(200 * 50_000 / 60 / 60)


def test_files_are_copied_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        (source / f"{name}.jpg").write_bytes(name.encode())
    copied = copy_images(source, 2, tmp_path / "copied")
    assert [path.read_bytes() for path in sorted(copied.iterdir())] == [b"a", b"b"]
    with pytest.raises(SystemExit, match="holds 3 images, and --steps with --batch-size takes 4"):
        copy_images(source, 4, tmp_path / "more")


def test_the_network_alone_has_two_views_forward_and_backward_and_two_forward() -> None:
    """A backward pass is two forward ones, but for the pixels, which need no gradient, and for
    zeros that pad.
    """
    found = network_alone("resnet18", 4, torch.device("cpu"))
    once = backbone_gflop("resnet18")
    assert 7 * once < found["gflop_an_image"] < 8 * once
    assert found["gflops"] == pytest.approx(found["gflop_an_image"] * found["images_per_second"])
    assert found["forward_images_per_second"] > found["images_per_second"]
