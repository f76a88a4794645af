"""A program: what one process of several does of a run, written down for test_distributed.py to
compare.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=… MASTER_PORT=… python shared_work.py IMAGES RESULTS
"""

import dataclasses
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import kmeans
from pauc_hub.clustering.prototypes import describe_clusters
from pauc_hub.errors import PaucError, UsageError
from pauc_hub.processes import Ranks
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training.calibration import calibrate_clusterings
from pauc_hub.training.config import Config
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.data.views import Batch, epoch_batches
from pauc_hub.training.distributed import World, join
from pauc_hub.training.estep import Expectation, all_features, expect
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.monitoring.diagnostics import diagnose
from pauc_hub.training.state import Training, new_training, take_step

CPU = torch.device("cpu")
CONFIG = Config(
    architecture="test_resnet",
    size=32,
    dim=16,
    epochs=1,
    batch_size=128,
    norm_group=32,
    queue=256,
    clusters=(3, 7),
    warmup=0.0,
    ramp=0.0,
    small_views=1,
    kmeans="torch",
    precision="fp32",
)
OBJECTIVES = {
    "infonce": dataclasses.replace(CONFIG, objective="infonce"),
    # so that prototypes are drawn
    "protonce": dataclasses.replace(CONFIG, objective="protonce", negatives=2),
    "pauc": dataclasses.replace(
        CONFIG, objective="pauc", symmetric=True, weight_proto=0.1, accumulate=2
    ),
}
STEPS = 2


def work(world: World, images: Path) -> dict[str, Any]:
    """What each process finds, or has when it is over."""
    results: dict[str, Any] = {"collectives": collectives(world), "reads": [], "estep": {}}
    results["calibration"] = calibration(world)
    state = begun(CONFIG, world, images)
    expectation = expected(state, results)
    for name, config in OBJECTIVES.items():
        results[name] = learnt(begun(config, world, images), expectation)
    return results


def collectives(world: World) -> dict[str, Any]:
    """All but those that learning uses and depends on."""
    seven = torch.arange(7.0).view(7, 1) + torch.tensor([0.0, 10.0])
    order = torch.tensor([5, 0, 3, 2, 4, 1])

    def refuse() -> None:
        raise UsageError(f"decided by {world.rank}")

    try:
        world.decided_by_first(refuse)
        said = ""
    except PaucError as error:
        said = f"{type(error).__name__}: {error}"
    return {
        "gathered": world.gather(seven[world.stretch(7)], 7),
        "flags": world.gather(torch.arange(7)[world.stretch(7)] == 6, 7),
        "shuffled": world.gather(world.shuffle(torch.arange(6.0)[world.stretch(6)], order), 6),
        "any": [world.any(world.rank == world.size - 1), world.any(False)],
        "merged": world.merge({index: f"image {index}" for index in range(7)[world.stretch(7)]}),
        "decided": world.decided_by_first(lambda: world.rank),
        "said": said,
    }


def calibration(world: World) -> dict[str, Any]:
    """Of two clusterings of made-up points."""
    rows = F.normalize(torch.randn(300, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    points, kept = rows[:240], rows[240:]
    clusterings = [
        describe_clusters(points, kmeans(points, k, backend="torch"), 0.2)[0] for k in (3, 9)
    ]
    rounds: list[int] = []
    found = calibrate_clusterings(points, kept, clusterings, 0, world, lambda: rounds.append(1))
    return found.to_dict() | {"scores": found.scores.tolist(), "rounds": len(rounds)}


def begun(config: Config, world: World, images: Path) -> Training:
    return new_training(
        Path(), config, open_by_index(images), CPU, 1, StopRequest(), True, world=world
    )


def expected(state: Training, results: dict[str, Any]) -> Expectation:
    """The E-step; which images were read for it, and what is measured."""
    read, source = state.source.read, state.source

    def noted(index: int) -> Any:
        results["reads"].append(index)
        return read(index)

    source.read = noted  # type: ignore[method-assign]
    state.loader = Streamed(source, state.loader.preprocessing, 1, CPU)
    batches: list[int] = []
    features, readable = all_features(
        state.pair.key, state.loader, CPU, torch.float32, 10, batches.append, state.world
    )
    expectation = expect(features, readable, CONFIG, 1, state.world)
    before = expect(features, readable, CONFIG, 2, state.world)
    results["batches"] = len(batches)
    results["estep"] = {"features": state.world.gather(features, len(source))}
    for m, (prototypes, own) in enumerate(
        zip(expectation.prototypes, expectation.assignments, strict=True)
    ):
        found = {
            f"{name} {m}": each for name, each in prototypes.__dict__.items() if each is not None
        }
        results["estep"] |= found | {f"assignment {m}": own}
    results["watched"] = diagnose(features, readable, expectation, before, CONFIG, state.world)
    return expectation


def learnt(state: Training, expectation: Expectation) -> dict[str, dict[str, Tensor]]:
    """After a step or two: its terms, the last gradients, and all that follows them."""
    state.expectation = expectation
    config = state.config
    everything = torch.randperm(len(state.source), generator=torch.Generator().manual_seed(0))
    drawn = next(epoch_batches(config, len(state.source), 0)).draws
    own = Batch(everything[: config.batch_size], drawn)[state.world.stretch(config.batch_size)]
    terms: dict[str, Tensor] = {}
    with closing(state.loader.views([own] * STEPS)) as views:
        for batch in views:
            terms |= {
                f"{name} {state.step}": value for name, value in take_step(state, batch).items()
            }
            state.step += 1
    gradients = {
        name: each.grad
        for name, each in state.pair.query.named_parameters()
        if each.grad is not None
    }
    return {"terms": terms, "gradients": gradients, "pair": state.pair.state_dict()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks, folder = Ranks.from_environment(), Path(sys.argv[2])
    with join(ranks, CPU) as joined:
        torch.save(work(joined, Path(sys.argv[1])), folder / f"{ranks.rank}.pt")
        joined.wait()
        if ranks.rank == 1:
            os._exit(9)  # as if killed
        try:
            joined.any(False)
        except PaucError as error:
            (folder / "lost.txt").write_text(f"{type(error).__name__}: {error}")
