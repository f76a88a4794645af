"""Whether an exported file says what the model says, in terms of embeddings. n images, S side, D
width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import PaucError

BATCHES = (1, 2, 7)
# Images that go through at each batch size; all of them go through at the largest.
AT_EACH_BATCH = 14
NEIGHBOURS = 5
# Below this difference in cosine, which of two images is nearer is a matter of rounding.
TIE = 1e-4

# Lengths below it are zero.
LEAST = 1e-30

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
Run = Callable[[npt.NDArray[np.uint8]], Outputs]
"""(n, S, S, 3) squares of bytes to outputs by name, (n, …) each."""


@dataclass(frozen=True)
class Limits:
    """What a file must reach to be kept."""

    cosine: float
    """Least cosine between an image's embeddings, at every batch size."""
    difference: float
    """Largest distance between them, as a share of the model's own embedding's length: cosines see
    no scale.
    """
    neighbours: float
    """Share of an image's NEIGHBOURS nearest that stay among the nearest."""
    values: float
    """Largest difference of a probability, confidence or similarity."""
    choices: float
    """Share of the images whose class or prototype stays the same."""


LIMITS = {
    "fp32": Limits(cosine=0.99999, difference=0.001, neighbours=0.99, values=0.001, choices=0.99),
    "fp16": Limits(cosine=0.999, difference=0.05, neighbours=0.9, values=0.05, choices=0.9),
    "int8": Limits(cosine=0.98, difference=0.25, neighbours=0.6, values=0.3, choices=0.6),
}


@dataclass(frozen=True)
class Parity:
    """How far a file's outputs are from the model's."""

    images: int
    """That were compared."""
    least_cosine: float
    largest_difference: float
    """Of embeddings, as a share of their length."""
    knn_agreement: float | None
    """Share of the NEIGHBOURS nearest images that are the same; None for fewer than three
    images.
    """
    batches: dict[int, float]
    """Least cosine at each batch size."""
    choices: dict[str, float] = field(default_factory=dict)
    """Share of the images with the same class or prototype, by output."""
    values: dict[str, float] = field(default_factory=dict)
    """Largest difference of every other output."""


def compare_outputs(run: Run, reference: Outputs, squares: npt.NDArray[np.uint8]) -> Parity:
    """Run a file at batches of 1, 2 and 7 and compare it with what the model says.

    Args:
        run: the file.
        reference: the model's outputs; `embedding` among them.
        squares: (n, S, S, 3) the images, n > 0.

    Raises:
        PaucError: the file does not run at a batch size, or its outputs have other shapes.
    """
    embedding = reference["embedding"].astype(np.float64)
    few = np.arange(AT_EACH_BATCH) % len(squares)
    batches = {}
    for batch in BATCHES:
        some = _fitting(
            _in_batches(run, squares[few], batch)["embedding"], embedding[few], "embedding", batch
        )
        batches[batch] = float(cosines(some, embedding[few]).min())
    found = _in_batches(run, squares, BATCHES[-1])
    ours = _fitting(found["embedding"], embedding, "embedding", BATCHES[-1]).astype(np.float64)
    choices: dict[str, float] = {}
    values: dict[str, float] = {}
    for name, expected in reference.items():
        got = _fitting(found[name], expected, name, BATCHES[-1])
        if np.issubdtype(expected.dtype, np.integer):
            choices[name] = float((got == expected).mean())
        elif name != "embedding":
            values[name] = float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max())
    return Parity(
        images=len(squares),
        least_cosine=float(min(cosines(ours, embedding).min(), *batches.values())),
        largest_difference=float(
            (_lengths(ours - embedding) / np.maximum(_lengths(embedding), LEAST)).max()
        ),
        knn_agreement=_agreement(ours, embedding) if len(squares) > 2 else None,
        batches=batches,
        choices=choices,
        values=values,
    )


def shortfalls(parity: Parity, limits: Limits) -> list[str]:
    """In words, what is beyond a limit; NaN is beyond all."""
    found = []
    for batch, cosine in parity.batches.items():
        if not cosine >= limits.cosine:
            found.append(f"least cosine {cosine:.6f} at batch {batch}, limit {limits.cosine}")
    if not found and not parity.least_cosine >= limits.cosine:
        found.append(f"least cosine {parity.least_cosine:.6f}, limit {limits.cosine}")
    if not parity.largest_difference <= limits.difference:
        found.append(
            f"embeddings differ by {parity.largest_difference:.2%} of their length, limit "
            f"{limits.difference:.1%}"
        )
    if parity.knn_agreement is not None and not parity.knn_agreement >= limits.neighbours:
        found.append(
            f"{parity.knn_agreement:.1%} of the nearest images agree, limit {limits.neighbours:.0%}"
        )
    for name, share in parity.choices.items():
        if not share >= limits.choices:
            found.append(f"{name} agrees for {share:.1%} of the images, limit {limits.choices:.0%}")
    for name, difference in parity.values.items():
        if not difference <= limits.values:
            found.append(f"{name} differs by {difference:.4f}, limit {limits.values}")
    return found


def _in_batches(run: Run, squares: npt.NDArray[np.uint8], batch: int) -> dict[str, Array]:
    parts: list[Outputs] = []
    for start in range(0, len(squares), batch):
        try:
            parts.append(run(squares[start : start + batch]))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise PaucError(
                f"the exported file does not run at batch {batch} ({reason}). It was not kept."
            ) from error
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _fitting(found: Array, expected: Array, name: str, batch: int) -> Array:
    if found.shape != expected.shape:
        raise PaucError(
            f"the exported file gives {name} of shape {found.shape} at batch {batch}, and the "
            f"model {expected.shape}. "
            "It was not kept."
        )
    return found


def _lengths(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    lengths: npt.NDArray[np.float64] = np.linalg.norm(rows.astype(np.float64), axis=1)
    return lengths


def cosines(found: Array, expected: Array) -> npt.NDArray[np.float64]:
    """(n,) of two embeddings of an image; NaN where one is not finite, 1 where both are zero."""
    one, other = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        products = (one * other).sum(axis=1) / np.maximum(_lengths(one) * _lengths(other), LEAST)
    return np.where((one == other).all(axis=1), 1.0, products)


def _agreement(found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    """Share of the nearest images that are as near in the model's own embeddings; images alike in
    rounding count.
    """
    k = min(NEIGHBOURS, len(expected) - 1)
    theirs, ours = _similarities(expected), _similarities(found)
    nearest = np.argsort(-ours, axis=1, kind="stable")[:, :k]
    least = -np.sort(-theirs, axis=1)[:, k - 1 : k]
    return float((np.take_along_axis(theirs, nearest, axis=1) >= least - TIE).mean())


def _similarities(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit = rows / np.maximum(_lengths(rows), LEAST)[:, None]
    similarities: npt.NDArray[np.float64] = unit @ unit.T
    np.fill_diagonal(similarities, -np.inf)
    return similarities
