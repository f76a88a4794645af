"""Code for GPUs on a GPU that is none: tensors with a shape, a type and a device, but without numbers.

What would mix devices on a GPU, or wait for a value there where it must not, fails with them on any machine. FakeTensor
has all but the backward pass, which asks the driver; a whole step therefore runs on torch's `meta` device too.
"""

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_leaves

from pauc_hub.clustering import prototypes
from pauc_hub.clustering.kmeans import ALONE, Clustering, nearest, seeding
from pauc_hub.evaluation import knn, metrics
from pauc_hub.images import preprocessing
from pauc_hub.images.decoding import ImageFile
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.inference.folded_resnet import build_network
from pauc_hub.inference.model import Model
from pauc_hub.models.folder import ModelFolder
from pauc_hub.models.projector import Projector
from pauc_hub.training import distributed, mstep, objectives, optimiser
from pauc_hub.training.config import Config
from pauc_hub.training.data import ImageSource, Loader, TwoViews, augment, crops
from pauc_hub.training.data.views import draw_views
from pauc_hub.training.estep import all_features
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.monitoring import diagnostics
from pauc_hub.training.networks.encoder import Encoder
from pauc_hub.training.rehearsal import _pretended
from pauc_hub.training.state import Training, new_training

lloyd = importlib.import_module("pauc_hub.clustering.kmeans.lloyd")  # the package has the function by that name
Answer = Callable[..., Any]
GPU, META = torch.device("cuda"), torch.device("meta")
# of constants, by device; the next test may have a real GPU
CACHES = (preprocessing._row, augment._normalisation)


@contextmanager
def pretended_gpu(*, waits: bool = False) -> Iterator[None]:
    """Within it, tensors can be made on GPU.

    Whoever asks for a value on the CPU gets a 1 or True, and masks choose all rows.

    Args:
        waits: the same on the GPU, where asking means waiting; otherwise it fails there.
    """
    with pytest.MonkeyPatch.context() as patch:
        # these ask the driver; what is pinned stays on the CPU
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        patch.setattr(Tensor, "is_pinned", lambda self: False)
        patch.setattr(Tensor, "pin_memory", lambda self: self)
        for name, answer in ANSWERS.items():
            patch.setattr(FakeTensor, name, answer if waits else refusing(name, answer), raising=False)
        patch.setattr(torch, "equal", lambda a, _: bool(a[0]))
        with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv() if waits else None):
            try:
                yield
            finally:
                for cache in CACHES:
                    cache.cache_clear()


def refusing(name: str, answer: Answer) -> Answer:
    def answered(self: Tensor, *index: Any) -> Any:
        plain = name == "__getitem__" and not is_mask(*index)
        assert self.device.type == "cpu" or plain, f"{name} waits for the GPU"
        return answer(self, *index)

    return answered


def rows(self: Tensor, index: Any) -> Tensor:
    if is_mask(index):
        assert index.device == self.device, f"a mask on {index.device} for rows on {self.device}"
        return self.clone()
    return Tensor.__getitem__(self, index)


def is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool


ANSWERS: dict[str, Answer] = {
    "item": lambda self: 1.0,
    "tolist": lambda self: [1] * self.numel(),
    "nonzero": lambda self: torch.arange(len(self), device=self.device).unsqueeze(1),
    "__bool__": lambda self: True,
    "__int__": lambda self: 1,
    "__float__": lambda self: 1.0,
    "__getitem__": rows,
}


def moved(module: nn.Module) -> nn.Module:
    """The module on GPU, its tensors in their memory order; their numbers are lost."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(parameter, device=GPU), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty_like(buffer, device=GPU)
    return module


def devices(found: object) -> set[str]:
    return {each.device.type for each in tree_leaves(found) if isinstance(each, Tensor)}


# --- a whole step

STEPS: list[dict[str, Any]] = [
    {"objective": "infonce"},
    {"objective": "protonce", "negatives": 2},
    {"objective": "pauc", "symmetric": True, "weight_proto": 0.5, "negatives": 2},
    {"accumulate": 2, "optimiser": "adamw", "lr": 0.001},
    {"optimiser": "lars"},
]


def state(run: Path, device: torch.device, **settings: Any) -> Training:
    """A run of 64 images of 32 pixels in which an E-step has just been."""
    config = Config(
        architecture="test_resnet",
        size=32,
        batch_size=64,
        norm_group=32,
        epochs=2,
        dim=8,
        queue=128,
        clusters=(3, 6),
        precision="fp32",
        **settings,
    )
    source = ImageSource("photos", [ImageFile(str(i), f"/nowhere/{i}") for i in range(64)])  # never read
    made = new_training(run, config, source, device, 1, StopRequest(), quiet=True)
    made.augment = cast(Any, lambda crops, *_: crops / 255)
    made.expectation, made.epoch = _pretended(64, (3, 6), 8, device), 1
    return made


def batch(device: torch.device) -> TwoViews:
    view = torch.zeros(64, 3, 32, 32, dtype=torch.uint8, device=device)
    unused = draw_views(Config(), 64, torch.Generator())
    return TwoViews(torch.zeros(64, dtype=torch.int64, device=device), view, view, (unused, unused))


def on_meta(run: Path, patch: pytest.MonkeyPatch, **settings: Any) -> Training:
    made = state(run, META, **settings)
    patch.setattr(mstep, "autocast", lambda *_: nullcontext())  # knows no such device
    unfuse(made.optimiser)
    return made


def unfuse(sgd: torch.optim.Optimizer) -> None:
    """Its one kernel is a GPU's; without it, there is one for all tensors of each operation."""
    for group in sgd.param_groups:
        group.update(fused=False, foreach=True)


@pytest.mark.parametrize("settings", STEPS, ids=str)
def test_a_whole_step_mixes_no_devices_and_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    made = on_meta(tmp_path, monkeypatch, **settings)
    assert devices(mstep.learn(made, batch(META))) == {"meta"}
    assert devices([parameter.grad for parameter in made.pair.query.parameters()]) == {"meta"}


def waiting(q: Tensor, *_: object) -> Tensor:
    return q.sum() * q.sum().item()


def mixing(q: Tensor, *_: object) -> Tensor:
    return (q * torch.ones(len(q), 1)).sum()


@pytest.mark.parametrize(("loss", "said"), [(waiting, "meta tensors"), (mixing, "meta")])
def test_one_that_waits_or_mixes_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: Callable[..., Tensor], said: str
) -> None:
    made = on_meta(tmp_path, monkeypatch, objective="infonce")
    monkeypatch.setattr(objectives, "info_nce", loss)
    with pytest.raises(RuntimeError, match=said):
        mstep.learn(made, batch(META))


CONSTANT = torch.ones(1, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: points() + CONSTANT,
        lambda: points() + torch.ones(1, 8),
        lambda: points() * gaps().sum().item(),
        lambda: points()[gaps() > 0],
        lambda: bool((gaps() > 0).any()),
        lambda: torch.bincount(assignment()).tolist(),
    ],
)
def test_on_a_pretended_gpu_it_is_found_out_too(wrong: Callable[[], object]) -> None:
    with pretended_gpu(), pytest.raises(Exception, match=r"(?i)device|waits for the GPU|bincount"):
        wrong()


@pytest.mark.parametrize("settings", STEPS[2:4], ids=str)
def test_a_step_but_for_the_backward_pass_does_neither_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    made = state(tmp_path, torch.device("cpu"), **settings)

    def backward(_: Tensor) -> None:
        for parameter in made.pair.query.parameters():
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(torch.autograd, "backward", backward)
    with pretended_gpu():
        moved(made.pair)
        made.optimiser = optimiser.new_optimiser(made.pair.query, made.config)
        if made.config.optimiser == "sgd":
            unfuse(made.optimiser)
        made.device, made.dtype = GPU, torch.bfloat16
        made.expectation = _pretended(64, (3, 6), 8, GPU)
        assert devices(mstep.learn(made, batch(GPU))) == {"cuda"}
        assert devices(made.pair.state_dict()) == {"cuda"}
    with pretended_gpu(waits=True):
        assert made.is_finite()


# --- views


def test_views_are_cut_and_changed_on_the_gpu() -> None:
    draws = draw_views(Config(size=32), 8, torch.Generator().manual_seed(0))
    change = augment.Augmentation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 2.0)
    with pretended_gpu():
        images = torch.zeros(8, 40, 3, 48, dtype=torch.uint8, device=GPU)
        edges, mirrored = torch.zeros(8, 4, dtype=torch.int64, device=GPU), torch.zeros(8, device=GPU) > 0
        views = crops.cut_batch(images, edges, mirrored, 32)
        assert (devices(views), views.shape) == ({"cuda"}, (8, 3, 32, 32))
        squares = Preprocessing(size=32).quick_squares(images.permute(0, 2, 1, 3))
        assert (devices(squares), squares.shape) == ({"cuda"}, (8, 32, 32, 3))
        # which images are blurred is known on the CPU
        changed = change(views, dataclasses.replace(draws, sigma=draws.sigma + torch.zeros(8)))
        assert (devices(changed), changed.dtype) == ({"cuda"}, torch.float32)


# --- the E-step


@dataclasses.dataclass
class Squares:
    """A loader of black squares."""

    source: list[int]
    preprocessing: Preprocessing = dataclasses.field(default_factory=lambda: Preprocessing(size=32))

    def squares(self, batches: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        for each in batches:
            pixels = torch.zeros(len(each), 32, 32, 3, dtype=torch.uint8, device=GPU)
            yield pixels, torch.ones(len(each), dtype=torch.bool)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_stay_on_the_gpu(dtype: torch.dtype) -> None:
    encoder = Encoder("test_resnet", 8)
    with pretended_gpu():
        moved(encoder)
        loader = cast(Loader, Squares(list(range(11))))
        features, readable = all_features(encoder, loader, GPU, dtype, 4, lambda _: None)
        assert (devices(features), features.shape) == ({"cuda"}, (11, 8))
    assert (devices(readable), readable.shape) == ({"cpu"}, (11,))


def points() -> Tensor:
    return torch.rand(50, 8, device=GPU)


def gaps() -> Tensor:
    return torch.rand(50, device=GPU)


def centroids() -> Tensor:
    return torch.rand(6, 8, device=GPU)


def assignment() -> Tensor:
    return torch.zeros(50, dtype=torch.int64, device=GPU)


def sizes() -> Tensor:
    return torch.ones(6, dtype=torch.int64, device=GPU)


@pytest.mark.parametrize(
    "inner",
    [
        lambda: nearest.best_scores(points(), centroids()),
        lambda: nearest.best_scores(points(), centroids(), bf16=True),
        lambda: nearest.assign(points(), centroids()),
        lambda: nearest.squared_gaps(points(), centroids(), assignment()),
        lambda: nearest.cluster_means(points(), assignment(), 6),
        lambda: lloyd.on_sphere(points()),
        lambda: lloyd._updated(points(), assignment(), centroids(), True, ALONE),
        lambda: prototypes.concentration(torch.rand(6, device=GPU), sizes(), 0.2),
        lambda: knn.knn_predict(points(), assignment(), points(), k=5, classes=3),
    ],
)
def test_clustering_waits_for_nothing_but_its_decisions(inner: Callable[[], object]) -> None:
    with pretended_gpu():
        assert devices(inner()) == {"cuda"}


def test_a_clustering_is_found_and_described_on_the_gpu() -> None:
    settings = lloyd.Settings(iterations=3, tolerance=0.0, spherical=False, bf16=True, heed=lambda: None)
    with pretended_gpu(waits=True):
        seeds = seeding.plus_plus(points(), gaps(), 6, torch.Generator(), ALONE)
        found = lloyd.lloyd(points(), gaps(), seeds, settings, ALONE)
        clustering = Clustering(found.centroids, found.assignment, found.objectives, 0)
        coarser, _ = prototypes.describe_clusters(points(), clustering, 0.2)
        described = prototypes.describe_clusters(points(), clustering, 0.2, coarser)
        assert devices([seeds, found.centroids, vars(described[0]), described[1]]) == {"cuda"}
        assert nearest.count_distinct(points()) == 1
        empty = torch.arange(2, device=GPU)
        assert devices(lloyd._farthest(empty, points(), assignment(), gaps(), 6, ALONE)) == {"cuda"}


def test_what_is_watched_is_measured_on_the_gpu() -> None:
    """Each measure is a number that somebody waits for."""
    with pretended_gpu(waits=True):
        assert devices(diagnostics._sample(points(), 0, 50, 0, distributed.ALONE)) == {"cuda"}
        assert diagnostics.spread(points(), assignment(), 6)["intra_variance"] == 1.0
        for measure in (metrics.effective_rank, metrics.uniformity):
            assert isinstance(measure(points()), float)
        assert isinstance(metrics.nmi(assignment(), assignment()), float)


# --- embedding


@pytest.mark.parametrize(("space", "width"), [("backbone", 512), ("projection", 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embedding_mixes_no_devices_and_waits_for_nothing(space: str, width: int, dtype: torch.dtype) -> None:
    timm = importlib.import_module("timm")
    weights = timm.create_model("resnet18", num_classes=0).state_dict()
    network, head = build_network("resnet18", weights, dtype), Projector(512, 16)
    with pretended_gpu():
        model = Model(
            name="tiny",
            network=moved(network),
            projector=cast(Projector, moved(head)),
            preprocessing=Preprocessing(size=32),
            folder=cast(ModelFolder, None),
            device=GPU,
            dtype=dtype,
        )
        found = model.encode(torch.zeros(4, 32, 32, 3, dtype=torch.uint8), space)
        assert (devices(found), found.shape, found.dtype) == ({"cuda"}, (4, width), torch.float32)
