"""Shared by all tests: small model folders with random weights, generated pictures, and ways for a
process to die.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import tiffs
import torch
from hub_server import HubServer
from hypothesis import HealthCheck, settings
from PIL import Image

from pauc_hub import progress
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.models.projector import Projector
from pauc_hub.models.write_folder import write_folder
from pauc_hub.training.monitoring import curves

# shells ignore it for what they start in the background
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing depends on chance, or on how busy the machine is.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_runtest_setup() -> None:
    torch.manual_seed(0)


ARCHITECTURE = "test_resnet"  # timm's smallest, 0.4 million parameters
WIDTH, DIM = 96, 16

WriteModel = Callable[..., Path]
Picture = Callable[[int, int], Image.Image]


def write_model(
    path: Path, *, head: bool = True, preprocessing: Preprocessing | None = None
) -> Path:
    """A model folder whose weights are drawn from a fixed seed; its batch norms have seen
    something.
    """
    import timm  # takes seconds, and most tests need no model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0)
        for _ in range(5):
            backbone(torch.randn(4, 3, 64, 64))
        projector = Projector(WIDTH, DIM).state_dict()
        centroids = torch.nn.functional.normalize(torch.randn(4, DIM), dim=1)
    prototypes = Prototypes(centroids, torch.full((4,), 0.2), torch.arange(4), torch.ones(4))
    return write_folder(
        path,
        architecture=ARCHITECTURE,
        backbone=backbone.state_dict(),
        num_features=WIDTH,
        preprocessing=(preprocessing or Preprocessing(size=64, crop_pct=0.9)).to_config(),
        pauc={"objective": "pauc", "dim": DIM, "clusters": [4], "resolution": 64},
        projector=projector if head else None,
        prototypes=[prototypes] if head else [],
        facts={"name": "tiny"},
        card="",
        half=False,
    )


@pytest.fixture(scope="session", autouse=True)
def _no_lines_of_progress() -> Iterator[None]:
    """On a busy machine a command takes long enough to say how far it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e9)
        yield


@pytest.fixture(scope="session", autouse=True)
def drawing_left_out() -> Iterator[Any]:
    """Training draws no curves, which takes longer than the small trainings themselves; yields what
    draws them.
    """
    with pytest.MonkeyPatch.context() as patch:
        draw = curves.draw
        patch.setattr(curves, "draw", lambda run, path: path.touch())
        yield draw


@pytest.fixture
def drawing(drawing_left_out: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at the curves."""
    monkeypatch.setattr(curves, "draw", drawing_left_out)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder named `tiny` with head and prototypes: 96 numbers from 64 px, 16 in projection
    space.
    """
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def headless_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a backbone alone."""
    return write_model(tmp_path_factory.mktemp("models") / "headless", head=False)


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Makes smooth coloured pictures, a different one for each size."""

    def make(width: int, height: int) -> Image.Image:
        coarse = np.random.default_rng([width, height]).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture(scope="session")
def write_tiff() -> Callable[..., Path]:
    """Writes pixels of any type as a TIFF, as scientific tools do."""
    return tiffs.write_tiff


class MeanColour:
    """An encoder whose embedding of an image is its mean colour; counts the images of each batch it
    is given.
    """

    name, weights_sha256, precision = "mean", "00", "fp32"
    preprocessing = Preprocessing(size=8, crop_pct=1.0)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def width_in(self, space: str) -> int:
        return 3

    def encode(self, batch: torch.Tensor, space: str) -> torch.Tensor:
        self.batches.append(len(batch))
        return batch.float().mean(dim=(1, 2))


@pytest.fixture
def mean_colour() -> type[MeanColour]:
    return MeanColour


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on this machine with nothing on it, and an empty cache; huggingface_hub knows no other,
    and no token.
    """
    from huggingface_hub import constants  # takes time

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


class Death(BaseException):
    """The process is no more: what was written stays, and nothing more can be done."""


@pytest.fixture
def dying_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[list[int]]]:
    """The file system fails from the given touch on, so that no clean-up gets through either;
    counts the touches.
    """

    @contextmanager
    def dying(touch: int) -> Iterator[list[int]]:
        count = [0]

        def dies(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                count[0] += 1
                if count[0] > touch:
                    raise Death
                return function(*args, **options)

            return call

        with monkeypatch.context() as patch, suppress(Death):
            # what pathlib and shutil call
            for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir"):
                patch.setattr(os, name, dies(getattr(os, name)))
            yield count

    return dying


@pytest.fixture(scope="session")
def files_of_at_most() -> Callable[[int], AbstractContextManager[None]]:
    """The system itself refuses to write more into a file, in the middle of a write, as it does on
    a full disk.
    """

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


# A process for each command, forked from one that has imported what takes seconds; torch has
# started no thread by then.
FORKS = """
for words in sys.stdin:
    if (process := os.fork()) == 0:
        os._exit(run(json.loads(words)))
    print(process, flush=True)
    _, status = os.waitpid(process, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class ForkServer:
    """Runs `pauc` commands, one at a time."""

    def __init__(self, process: subprocess.Popen[str], said: IO[str]) -> None:
        """`said` is what the process and its children write to stderr."""
        self._process = process
        self._said = said

    def start(self, words: Sequence[str]) -> int:
        """The command's process, as a file descriptor that becomes readable when it ends."""
        assert self._process.stdin
        print(json.dumps(words), file=self._process.stdin, flush=True)
        return os.pidfd_open(self._answer())

    def over(self, process: int, seconds: float) -> bool:
        """Wait so long for it to end; whether it has."""
        return bool(select.select([process], [], [], seconds)[0])

    def end(self, process: int) -> int:
        """Wait for it; the exit code, less than 0 where a signal ended it."""
        os.close(process)
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        if not answer:
            self._said.seek(0)
            pytest.fail(f"the server has ended:\n{self._said.read()}")
        return int(answer)


@pytest.fixture(scope="session")
def fork_server() -> Callable[[str], AbstractContextManager[ForkServer]]:
    """A server that runs a program first, in which `json`, `os` and `sys` are imported and which
    defines `run`.
    """

    @contextmanager
    def serve(program: str) -> Iterator[ForkServer]:
        command = [sys.executable, "-c", f"import json, os, sys\n{program}\n{FORKS}"]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        pipe = subprocess.PIPE
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=said, text=True, env=environment
            ) as process,
        ):
            yield ForkServer(process, said)
            # quicker than its own end
            process.kill()

    return serve
