"""The examples in the docstrings of the public API, run as they stand."""

import doctest
import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pauc_hub
from pauc_hub.training import rehearsal

# photographs and a model of 64 pixels: embed() names a stronger one
pytestmark = pytest.mark.filterwarnings("ignore::pauc_hub.Note")
PHOTOS = Path(__file__).parents[2] / "examples" / "images"
MODEL = "pauc_resnet18"
# One fetches, the other traces a network for half a minute; their own tests run both.
NOT_RUN = {"pull", "export"}
PUBLIC = {name: getattr(pauc_hub, name) for name in pauc_hub.__all__ if name != "__version__"}
# Errors, and settings that are documented field by field, need no example.
NEED_NONE = {
    name
    for name, value in PUBLIC.items()
    if inspect.isclass(value) and issubclass(value, Exception)
}
NEED_NONE |= {"Note", "TrainConfig"}
EXAMPLES = sorted(PUBLIC.keys() - NEED_NONE - NOT_RUN)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples speak of: photos/, labelled/ of two colours, and what was made of them
    before.
    """
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(PHOTOS, folder / "photos", ignore=shutil.ignore_patterns("SOURCES"))
    rng = np.random.default_rng(0)
    for colour, channel in (("blue", 2), ("red", 0)):
        (folder / "labelled" / colour).mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += 160
            Image.fromarray(pixels).save(folder / "labelled" / colour / f"{index:02}.png")
    for name in ("photos", "labelled"):
        pauc_hub.embed(folder / name, MODEL, output=folder / f"{name}.parquet", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pauc_hub.cluster("photos.parquet", [2], exemplars=1, quiet=True)
        pauc_hub.probe("labelled.parquet", output="colours.probe.safetensors", quiet=True)
        pauc_hub.evaluate([], "labelled.parquet", output="first.scores.json", quiet=True)
        shutil.copy("first.scores.json", "second.scores.json")
    return folder


def examples(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(PUBLIC[name]) or "")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_does_what_it_says(
    name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examples(name), f"{name} has no example"
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rehearsal, "MOST_STEPS", 3)
    names: dict[str, Any] = dict(PUBLIC)
    test = doctest.DocTest(examples(name), names, name, None, None, None)
    told: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        test, out=told.append
    )
    assert failed == 0, "".join(told)


@pytest.mark.parametrize("name", sorted(NOT_RUN))
def test_examples_that_are_not_run_are_python(name: str) -> None:
    for each in examples(name):
        compile(each.source, name, "exec")
