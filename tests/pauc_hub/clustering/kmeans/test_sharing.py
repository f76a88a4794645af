"""Points shared by processes: the same clusters as in one, however they are divided."""

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import Clustering, kmeans
from pauc_hub.errors import UsageError

PROCESS = """
import sys, torch
from torch import distributed
from pauc_hub.clustering.kmeans import kmeans

class Gloo:
    rank, size = int(sys.argv[1]), 2
    def sum(self, tensor):
        distributed.all_reduce(tensor)
        return tensor

torch.set_num_threads(1)
meeting = f"file://{sys.argv[2]}/meeting"
distributed.init_process_group("gloo", init_method=meeting, rank=Gloo.rank, world_size=2)
points = torch.load(f"{sys.argv[2]}/points{Gloo.rank}.pt")
found = kmeans(points, 60, iterations=10, backend="torch", group=Gloo())
told = (found.centroids, found.assignment, found.objectives)
torch.save(told, f"{sys.argv[2]}/found{Gloo.rank}.pt")
distributed.destroy_process_group()
"""


@dataclass
class Meeting:
    """Threads in the place of processes."""

    size: int
    barrier: threading.Barrier = field(init=False)
    tensors: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size, timeout=600)


@dataclass
class Member:
    rank: int
    meeting: Meeting

    @property
    def size(self) -> int:
        return self.meeting.size

    def sum(self, tensor: Tensor) -> Tensor:
        self.meeting.tensors[self.rank] = tensor.clone()
        self.meeting.barrier.wait()
        total = sum(self.meeting.tensors[rank] for rank in range(self.size))
        self.meeting.barrier.wait()
        tensor.copy_(torch.as_tensor(total))  # as all_reduce does
        return tensor


def shared(
    points: Tensor, sizes: list[int], cluster: Callable[[Tensor, Member], Clustering]
) -> list[Clustering]:
    meeting = Meeting(len(sizes))
    found: dict[int, Clustering | Exception] = {}

    def work(rank: int, part: Tensor) -> None:
        try:
            found[rank] = cluster(part, Member(rank, meeting))
        except Exception as error:
            found[rank] = error
            meeting.barrier.abort()

    threads = [
        threading.Thread(target=work, args=each) for each in enumerate(torch.split(points, sizes))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [each for each in found.values() if isinstance(each, Exception)]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error  # the cause, not that others waited in vain
    return [each for rank in range(len(sizes)) if isinstance(each := found[rank], Clustering)]


def features(count: int = 900) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 30
    centres = torch.randn(30, 16, generator=generator)
    return F.normalize(centres[labels] + 0.5 * torch.randn(count, 16, generator=generator), dim=1)


@pytest.mark.parametrize("sizes", [[900], [450, 450], [1, 899], [300, 0, 600], [899, 0, 0, 1]])
@pytest.mark.parametrize("spherical", [False, True])
def test_however_the_rows_are_divided_the_clusters_are_the_same(
    sizes: list[int], spherical: bool
) -> None:
    points = features()
    alone = kmeans(points, 60, spherical=spherical, backend="torch", restarts=2)
    parts = shared(
        points,
        sizes,
        lambda part, group: kmeans(
            part, 60, spherical=spherical, restarts=2, backend="torch", group=group
        ),
    )
    assert torch.cat([part.assignment for part in parts]).tolist() == alone.assignment.tolist()
    for part in parts:
        assert torch.equal(part.centroids, parts[0].centroids)
        assert torch.allclose(part.centroids, alone.centroids, atol=1e-6)
        assert part.objectives == pytest.approx(alone.objectives, rel=1e-6)


@pytest.mark.parametrize("sizes", [[450, 450], [899, 1], [10, 0, 890]])
def test_empty_clusters_are_split_alike(sizes: list[int]) -> None:
    points = features()
    start = torch.cat([points[:20], torch.full((10, 16), 9.0)])
    alone = kmeans(points, 30, start=start, backend="torch")
    parts = shared(
        points,
        sizes,
        lambda part, group: kmeans(part, 30, start=start, backend="torch", group=group),
    )
    assert [part.empty_splits for part in parts] == [alone.empty_splits] * len(sizes)
    assert alone.empty_splits >= 10
    assert torch.cat([part.assignment for part in parts]).tolist() == alone.assignment.tolist()


def test_two_gloo_processes_find_what_one_does(tmp_path: Path) -> None:
    points = features(2001)
    for rank, part in enumerate(torch.split(points, [700, 1301])):
        torch.save(part.clone(), tmp_path / f"points{rank}.pt")
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=6000) for process in running] == [0, 0]
    alone = kmeans(points, 60, iterations=10, backend="torch")
    found = [torch.load(tmp_path / f"found{rank}.pt") for rank in range(2)]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][0], alone.centroids, atol=1e-6)
    assert torch.cat([found[0][1], found[1][1]]).tolist() == alone.assignment.tolist()
    assert found[0][2] == found[1][2] == pytest.approx(alone.objectives, rel=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"), [(float("nan"), "must be finite"), (0.0, "must lie between 1 and")]
)
def test_what_is_wrong_in_one_process_is_refused_in_all(spoil: float, message: str) -> None:
    points = features(10)
    points[0, 0] = spoil
    with pytest.raises(ValueError, match=message):
        shared(points, [5, 5], lambda part, group: kmeans(part, 4 if spoil else 11, group=group))


def test_faiss_does_not_share() -> None:
    with pytest.raises(UsageError, match="'faiss' runs in one process, not in 2"):
        kmeans(torch.zeros(4, 2), 1, backend="faiss", group=Member(0, Meeting(2)))
