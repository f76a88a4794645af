"""`pauc train --from`: what is chosen and why, what became of the weights, and the exit line where
that was no good.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.training.monitoring import before_after

OPTIONS = (
    "--size",
    "32",
    "--epochs",
    "2",
    "--batch-size",
    "8",
    "--clusters",
    "2",
    "--device",
    "cpu",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos/ of two classes and given/, a model that timm saved."""
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    for i in range(20):
        place = tmp_path / "photos" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
            place / f"{i:02}.png"
        )
    torch.manual_seed(0)
    timm.models.save_for_hf(
        timm.create_model("test_resnet"), str(tmp_path / "given"), safe_serialization=True
    )
    return tmp_path


def test_a_run_that_made_the_weights_worse_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def worse(before: torch.Tensor, after: torch.Tensor) -> dict[str, Any]:
        return {"before": 0.75, "after": 0.5, "questions": 2, "kept": "before"}

    monkeypatch.setattr(before_after, "judged", worse)
    assert (
        run(["train", "photos", "-o", "run", "--from", "./given", "--labelled", "photos", *OPTIONS])
        == 0
    )
    shown = capsys.readouterr()
    assert (
        "\n  freeze 3  (of 4 stages or blocks the first 3 keep the weights of given)\n" in shown.err
    )
    assert "before and after, on 20 images: effective rank " in shown.err
    assert "on the other half the weights from before were better: the model has them" in shown.err
    given = here / "given"
    assert shown.out.startswith(
        f"run/model: trained, and by its labels it made {given} worse; verdict: "
    )
    facts = json.loads((here / "run" / "model" / "facts.json").read_text())
    assert facts["before_after"]["knn"]["kept"] == "before"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--from", "./given", "--freeze", "9"),
            (
                "the configuration cannot be trained: --freeze 9 must be 0 to 3: test_resnet "
                "has 4 stages or blocks."
            ),
        ),
        (("--from", "nowhere/"), "unknown model 'nowhere/': there is no such folder."),
        (
            ("--from", "./given", "--architecture", "resnet18"),
            (
                "--architecture resnet18 is not that of --from given, which is a test_resnet: "
                "leave it out."
            ),
        ),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_cannot_start_is_one_line(
    options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "photos", "-o", "run", "--quiet", *options, *OPTIONS]) != 0
    assert capsys.readouterr().err == f"error: {message}\n"
