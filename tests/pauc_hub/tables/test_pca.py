"""Principal components: against the singular values of a float64 reference, by property, and in
degenerate cases.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from pauc_hub.errors import PaucError, TableError
from pauc_hub.tables import pca as pca_module
from pauc_hub.tables.pca import Pca


def sample(rows: int = 200, width: int = 12, seed: int = 0) -> npt.NDArray[np.float32]:
    """Rows of unequal variance along slanted directions, far from the origin."""
    draws = np.random.default_rng(seed)
    slant = np.linalg.qr(draws.normal(size=(width, width)))[0]
    numbers: npt.NDArray[np.float64] = (
        draws.normal(size=(rows, width)) * 2.0 ** -np.arange(width) @ slant
        + draws.normal(size=width) * 10
    )
    return numbers.astype(np.float32)


def reference(x: npt.NDArray[np.float32], width: int) -> tuple[npt.NDArray[np.float64], float]:
    """Components and share of variance as scikit-learn's PCA(svd_solver="full") defines them, in
    float64.
    """
    centred = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    _, values, rows = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])
    return (rows * signs[:, None])[:width], (values[:width] ** 2).sum() / (values**2).sum()


def test_by_hand() -> None:
    """Twice as far along the first diagonal as across it."""
    x = np.array([[3, 2], [-1, -2], [0, 1], [2, -1]], np.float32)  # the mean is (1, 0)
    pca = Pca.fit(x, 1)
    assert pca.mean.tolist() == [1, 0]
    assert np.allclose(pca.components, [[np.sqrt(0.5), np.sqrt(0.5)]])
    assert pca.variance_share == pytest.approx(16 / (16 + 4))
    assert np.allclose(pca.project(x), [[np.sqrt(8)], [-np.sqrt(8)], [0], [0]], atol=1e-6)


@pytest.mark.parametrize("width", [1, 5, 12])
@pytest.mark.parametrize("rows", [12, 200])
def test_components_are_those_of_the_reference(width: int, rows: int) -> None:
    width = min(width, rows - 1)  # beyond that there is no variance, and any direction will do
    x = sample(rows)
    pca, (components, share) = Pca.fit(x, width), reference(x, width)
    assert np.allclose(pca.components, components, atol=1e-5)
    assert pca.variance_share == pytest.approx(share, abs=1e-9)
    exact = (x - x.mean(axis=0, dtype=np.float64)) @ components.T
    assert np.allclose(pca.project(x), exact, atol=1e-4)
    assert pca.project(x).dtype == pca.mean.dtype == pca.components.dtype == np.float32


def test_the_sample_may_come_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Pca.fit(sample(), 5)
    monkeypatch.setattr(pca_module, "ROWS_TOGETHER", 7)
    assert np.allclose(Pca.fit(sample(), 5).components, whole.components, atol=1e-6)


def test_components_are_orthonormal_and_projections_uncorrelated() -> None:
    pca = Pca.fit(sample(), 5)
    assert np.allclose(pca.components @ pca.components.T, np.eye(5), atol=1e-6)
    covariance = np.cov(pca.project(sample()).T)
    assert np.allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5)
    assert (np.diff(np.diag(covariance)) < 0).all()


def test_nothing_is_whitened_and_with_all_components_distances_stay() -> None:
    x = sample()
    pca = Pca.fit(x, 12)
    assert pca.variance_share == pytest.approx(1)
    before = np.linalg.norm(x[0] - x[1:], axis=1)
    after = np.linalg.norm(pca.project(x[:1]) - pca.project(x[1:]), axis=1)
    assert np.allclose(before, after, rtol=1e-4)


def test_the_same_sample_gives_the_same_file_and_mirrored_ones_the_same_signs() -> None:
    assert Pca.fit(sample(), 5).sha256 == Pca.fit(sample(), 5).sha256
    assert Pca.fit(sample(), 5).sha256 != Pca.fit(sample(seed=1), 5).sha256
    assert np.allclose(Pca.fit(-sample(), 5).components, Pca.fit(sample(), 5).components, atol=1e-6)


def test_a_small_variance_far_from_the_origin_is_found() -> None:
    """In float32 a covariance would drown in the square of the mean."""
    draws = np.random.default_rng(0)
    x = (1000 + draws.normal(size=(500, 4)) * [0.01, 1, 0.1, 0.01]).astype(np.float32)
    assert np.abs(Pca.fit(x, 2).components).argmax(axis=1).tolist() == [1, 2]


def test_constant_features_are_left_out() -> None:
    x = sample(width=6)
    x[:, [1, 4]] = 7
    pca = Pca.fit(x, 4)
    assert np.allclose(pca.components[:, [1, 4]], 0, atol=1e-6)
    assert pca.variance_share == pytest.approx(1)
    assert np.isfinite(Pca.fit(x, 6).project(x)).all()


def test_a_sample_that_does_not_vary_is_projected_to_zeros() -> None:
    x = np.full((10, 6), 3.25, np.float32)
    pca = Pca.fit(x, 2)
    assert pca.variance_share == 1
    assert np.array_equal(pca.project(x), np.zeros((10, 2)))
    assert np.allclose(pca.components @ pca.components.T, np.eye(2))


REFUSED = [
    (sample(5), 8, r"^pca=8 needs at least 8 images that can be read, and there are 5\.$"),
    (sample(0), 1, r"^pca=1 needs at least 1 images that can be read, and there are 0\.$"),
    (
        sample(width=12),
        13,
        r"^pca=13 is more than the 12 numbers of an embedding\. Give 12 or less\.$",
    ),
    (np.array([[1, np.nan], [0, 1]], np.float32), 1, r"^pca=1 needs finite numbers"),
    (np.array([[1, np.inf], [0, 1]], np.float32), 1, r"^pca=1 needs finite numbers"),
]


@pytest.mark.parametrize(("x", "width", "message"), REFUSED)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_cannot_be_fitted_is_one_line(
    x: npt.NDArray[np.float32], width: int, message: str
) -> None:
    with pytest.raises(PaucError, match=message):
        Pca.fit(x, width)


def test_what_was_saved_comes_back_and_is_plain_safetensors(tmp_path: Path) -> None:
    pca, path = Pca.fit(sample(), 5), tmp_path / "t.pca.safetensors"
    pca.save(path)
    again = Pca.read(path)
    assert (again.width, again.variance_share, again.sha256) == (5, pca.variance_share, pca.sha256)
    assert pca.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(again.project(sample(seed=1)), pca.project(sample(seed=1)))
    assert {name: each.shape for name, each in load_file(path).items()} == {
        "mean": (12,),
        "components": (5, 12),
    }


def test_other_files_are_no_pca(tmp_path: Path) -> None:
    path = tmp_path / "t.pca.safetensors"
    for write in (
        lambda: None,
        lambda: path.write_text("text"),
        lambda: save_file({"mean": np.ones(3)}, path),
        lambda: save_file({"mean": np.ones(3)}, path, {"pauc": '{"variance_share": 1}'}),
    ):
        write()
        with pytest.raises(
            TableError, match=r"^'.*t\.pca\.safetensors' cannot be read as a PCA of pauc-hub"
        ) as caught:
            Pca.read(path)
        assert len(str(caught.value).splitlines()) == 1
