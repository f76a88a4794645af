"""Ward's hierarchy over centroids with sizes, against scikit-learn, scipy and merges by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor

from pauc_hub.clustering.hierarchy import ward
from pauc_hub.evaluation.partitions import adjusted_rand


def points(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) + 3


@pytest.mark.parametrize("k", [1, 2, 7, 40, 119, 120])
def test_points_that_are_their_own_centroids_give_ward_on_all_points(k: int) -> None:
    data = points(120)
    ours = ward(data, torch.ones(120)).cut(k)
    theirs = AgglomerativeClustering(k, linkage="ward").fit_predict(data.numpy())
    assert adjusted_rand(ours, torch.from_numpy(theirs)) == 1
    assert torch.unique(ours).tolist() == list(range(k))


def test_costs_are_those_of_scipy() -> None:
    data = points(50)
    heights = linkage(data.double().numpy(), "ward")[:, 2]
    np.testing.assert_allclose(np.sqrt(2 * ward(data, torch.ones(50)).costs), heights, rtol=1e-4)


def test_going_on_from_clusters_gives_what_ward_on_all_points_gives() -> None:
    """Clusters taken from Ward's own tree, so that the merges above them must be the same."""
    data = points(200, seed=1)
    tree = linkage(data.double().numpy(), "ward")
    fine = torch.from_numpy(fcluster(tree, 30, "maxclust").astype(np.int64)) - 1
    sizes = torch.bincount(fine)
    means = torch.zeros(30, 6).index_add_(0, fine, data) / sizes.unsqueeze(1)
    above = ward(means, sizes)
    for k in (2, 5, 11):
        expected = torch.from_numpy(fcluster(tree, k, "maxclust").astype(np.int64))
        assert adjusted_rand(above.cut(k)[fine], expected) == 1
        # without the sizes the merges are others
    plain = ward(means, torch.ones(30)).cut(5)[fine]
    assert (
        adjusted_rand(plain, torch.from_numpy(fcluster(tree, 5, "maxclust").astype(np.int64))) < 1
    )


def test_costs_by_hand() -> None:
    """0 and 1 first: 2·1/3·1 = 2/3. Their mean is 1/3 with 3 members: 3·4/7·(10 - 1/3)²."""
    tree = ward(torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([2, 1, 4]))
    assert tree.costs.tolist() == pytest.approx([2 / 3, 12 / 7 * (29 / 3) ** 2], rel=1e-6)
    assert tree.cut(2).tolist() == [0, 0, 1]


def test_finer_cuts_lie_within_coarser_ones() -> None:
    # equal distances everywhere, so that ties and rounding decide
    grid = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    tree = ward(grid, torch.ones(64))
    cuts = [tree.cut(k) for k in range(1, 65)]
    for coarse, fine in pairwise(cuts):
        pairs = torch.unique(torch.stack([fine, coarse]), dim=1)
        assert pairs.shape[1] == len(torch.unique(fine))


def test_copies_and_single_centroids() -> None:
    assert torch.unique(ward(torch.ones(5, 3), torch.ones(5)).cut(2)).tolist() == [0, 1]
    assert ward(torch.ones(1, 3), torch.ones(1)).cut(1).tolist() == [0]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="without members"):
        ward(torch.eye(2), torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="1 to 20000"):
        ward(torch.ones(20_001, 1), torch.ones(20_001))
    with pytest.raises(ValueError, match="between 1 and the number of centroids, 2"):
        ward(torch.eye(2), torch.ones(2)).cut(3)
