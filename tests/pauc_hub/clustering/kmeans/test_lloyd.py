"""Lloyd's iterations: against a naive float64 reference, never uphill, empty clusters, when to
stop, and Ctrl-C.
"""

import itertools
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import kmeans


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_lloyd(
    points: Tensor, start: Tensor, iterations: int, spherical: bool
) -> tuple[np.ndarray, list[int], list[float]]:
    x, c = points.double().numpy(), start.double().numpy()
    objectives = []
    for step in range(iterations + 1):
        distances = ((x[:, None] - c[None]) ** 2).sum(2)
        nearest = distances.argmin(1)
        objectives.append(float(distances.min(1).mean()))
        if step < iterations:
            c = np.stack([x[nearest == k].mean(0) for k in range(len(c))])
            if spherical:
                c /= np.linalg.norm(c, axis=1, keepdims=True)
    return c, nearest.tolist(), objectives


@pytest.mark.parametrize("spherical", [False, True])
def test_every_iteration_is_that_of_the_naive_reference(spherical: bool) -> None:
    points = normal(400, 6)
    points = F.normalize(points, dim=1) if spherical else points
    centroids, assignment, objectives = naive_lloyd(points, points[:12], 8, spherical)
    found = kmeans(
        points, 12, start=points[:12], iterations=8, spherical=spherical, backend="torch"
    )
    assert found.assignment.tolist() == assignment
    assert np.allclose(found.centroids.numpy(), centroids, atol=1e-6)
    assert list(found.objectives) == pytest.approx(objectives, rel=1e-6)


def test_far_from_zero_the_iterations_are_the_same() -> None:
    points = normal(400, 6)
    near, far = (
        kmeans(x, 12, start=x[:12], iterations=8, backend="torch") for x in (points, points + 1000)
    )
    assert near.assignment.tolist() == far.assignment.tolist()
    assert near.objectives == pytest.approx(far.objectives, rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(), spherical=st.booleans(), seed=st.integers(0, 99), iterations=st.integers(1, 12)
)
def test_the_objective_never_rises(
    data: st.DataObject, spherical: bool, seed: int, iterations: int
) -> None:
    """Whole numbers too, so that many points coincide and clusters fall empty."""
    shape = data.draw(st.tuples(st.integers(1, 60), st.integers(1, 4)))
    elements = st.one_of(st.integers(-3, 3).map(float), st.floats(-100, 100, width=32))
    points = torch.from_numpy(data.draw(arrays(np.float32, shape, elements=elements)))
    k = data.draw(st.integers(1, len(points)))
    found = kmeans(
        points, k, iterations=iterations, seed=seed, spherical=spherical, backend="torch"
    )
    rounding = 1e-5 * (1 + points.square().sum(dim=1).mean().item())
    assert all(
        later <= earlier + rounding for earlier, later in itertools.pairwise(found.objectives)
    )
    assert int(found.assignment.max()) < k


def test_an_empty_cluster_is_split_off_the_one_with_the_most_to_gain() -> None:
    """Three centroids of which two coincide: the second of them must move to one of the two groups
    on the left, and not to the larger one on the right.
    """
    sizes = {-12.0: 20, -8.0: 20, 10.0: 100}
    points = torch.cat(
        [normal(size, 2) * 0.1 + torch.tensor([x, 0.0]) for x, size in sizes.items()]
    )
    start = torch.tensor([[-10.0, 0.0], [10.0, 0.0], [10.0, 0.0]])
    found = kmeans(points, 3, start=start, backend="torch")
    assert found.empty_splits == 1
    assert sorted(torch.bincount(found.assignment).tolist()) == [20, 20, 100]
    assert found.objective < 0.1


def test_a_cluster_of_one_point_is_never_split_however_far_its_centroid_was() -> None:
    points = torch.tensor([[0.0, 2.0], [0.0, -2.0], [100.0, 0.0]])
    start = torch.tensor([[0.0, 0.0], [200.0, 0.0], [500.0, 0.0]])
    found = kmeans(points, 3, start=start, iterations=1, backend="torch")
    assert sorted(found.assignment.tolist()) == [0, 1, 2]


def test_several_empty_clusters_are_split_off_different_ones() -> None:
    places = [(0.0, 0.0), (0.0, 4.0), (30.0, 0.0), (30.0, 3.0), (0.0, 60.0), (3.0, 60.0)]
    points = torch.cat(
        [normal(20, 2, seed=i) * 0.1 + torch.tensor(place) for i, place in enumerate(places)]
    )
    start = torch.tensor([[0.0, 2.0], [30.0, 1.5], [1.5, 60.0], *([[1000.0, 1000.0]] * 3)])
    found = kmeans(points, 6, start=start, backend="torch")
    assert found.empty_splits == 3
    assert torch.bincount(found.assignment, minlength=6).tolist() == [20] * 6


def test_with_more_clusters_than_different_points_the_rest_stay_empty() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).repeat(10, 1)
    found = kmeans(points, 5, backend="torch")
    assert sorted(torch.bincount(found.assignment, minlength=5).tolist()) == [0, 0, 0, 10, 10]
    assert found.objective == 0
    assert bool(torch.isfinite(found.centroids).all())


def test_it_stops_where_nothing_moves_any_more() -> None:
    points = torch.cat([normal(30, 3) * 0.1, normal(30, 3) * 0.1 + 9])
    found = kmeans(points, 2, iterations=100, backend="torch")
    assert found.iterations < 10
    assert len(found.objectives) == found.iterations + 1
    more = kmeans(points, 2, iterations=1, start=found.centroids, backend="torch")
    assert more.objective == pytest.approx(found.objective, rel=1e-6)


def test_a_tolerance_stops_earlier_and_costs_little() -> None:
    points = normal(2000, 8)
    patient, hasty = (
        kmeans(points, 20, iterations=300, tolerance=t, backend="torch") for t in (0.0, 1e-3)
    )
    assert 1 < hasty.iterations < patient.iterations / 2
    assert hasty.objective == pytest.approx(patient.objective, rel=0.03)
    assert hasty.objectives == patient.objectives[: hasty.iterations + 1]


def test_no_iterations_give_the_start_back() -> None:
    points = normal(50, 3)
    found = kmeans(points, 4, iterations=0, start=points[10:14], backend="torch")
    assert torch.allclose(found.centroids, points[10:14], atol=1e-6)
    assert found.iterations == 0


def test_a_mean_of_no_direction_leaves_the_centroid_on_the_sphere() -> None:
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    found = kmeans(points[:2], 1, start=points[2:], spherical=True, backend="torch")
    assert found.centroids.tolist() == [[0.0, 1.0]]


def test_a_warm_start_goes_on_where_the_other_run_stopped() -> None:
    points = normal(1000, 8)
    whole = kmeans(points, 15, iterations=9, backend="torch")
    half = kmeans(points, 15, iterations=4, backend="torch")
    rest = kmeans(points, 15, iterations=5, start=half.centroids, backend="torch")
    assert torch.equal(rest.assignment, whole.assignment)
    assert rest.objectives == pytest.approx(whole.objectives[4:], rel=1e-6)


def test_bf16_ends_with_an_exact_assignment_and_as_good_an_objective() -> None:
    points = F.normalize(normal(4000, 64) + normal(40, 64, seed=1).repeat(100, 1), dim=1)
    exact, quick = (kmeans(points, 100, bf16=bf16, backend="torch") for bf16 in (False, True))
    assert quick.objective == pytest.approx(exact.objective, rel=2e-3)
    distances = torch.cdist(points.double(), quick.centroids.double())
    chosen = distances.gather(1, quick.assignment.unsqueeze(1)).squeeze(1)
    assert (chosen - distances.amin(dim=1)).max().item() < 1e-5


def test_ctrl_c_is_heeded_before_the_next_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    from pauc_hub.clustering.kmeans import nearest

    largest, chunks = nearest.largest, []

    def interrupted(scores: Tensor) -> tuple[Tensor, Tensor]:
        chunks.append(len(scores))
        if len(chunks) == 30:
            signal.raise_signal(signal.SIGINT)
        return largest(scores)

    monkeypatch.setattr(nearest, "CHUNK_ENTRIES", {"cpu": 1000})
    monkeypatch.setattr(nearest, "largest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kmeans(normal(2000, 4), 20, backend="torch")
    assert len(chunks) == 30


def test_a_stop_is_heeded_before_the_next_iteration() -> None:
    calls = 0

    def heed() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        kmeans(normal(2000, 4), 20, heed=heed, backend="torch")
    assert calls == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("bf16", [False, True])
def test_a_gpu_repeats_itself_bit_for_bit_and_agrees_with_the_cpu(bf16: bool) -> None:
    points = F.normalize(normal(20_000, 128) + normal(200, 128, seed=1).repeat(100, 1), dim=1)
    first, again = (kmeans(points.cuda(), 500, bf16=bf16, backend="torch") for _ in range(2))
    assert torch.equal(first.centroids, again.centroids)
    assert torch.equal(first.assignment, again.assignment)
    assert first.objectives == again.objectives
    assert first.objective == pytest.approx(
        kmeans(points, 500, backend="torch").objective, rel=2e-3
    )


def test_what_was_seen_is_enough_to_go_on() -> None:
    """Stopped after three iterations, spherical k-means goes on from the centroids that it
    showed.
    """
    points = torch.nn.functional.normalize(
        torch.randn(300, 5, generator=torch.Generator().manual_seed(0)), dim=1
    )
    shown: list[tuple[float, torch.Tensor]] = []
    whole = kmeans(
        points,
        12,
        spherical=True,
        backend="torch",
        iterations=10,
        seen=lambda *each: shown.append(each),
    )
    assert tuple(objective for objective, _ in shown) == whole.objectives
    rest = kmeans(points, 12, spherical=True, backend="torch", start=shown[3][1], iterations=10 - 3)
    assert torch.equal(rest.assignment, whole.assignment)
    assert rest.objective == pytest.approx(whole.objective, rel=1e-6)
