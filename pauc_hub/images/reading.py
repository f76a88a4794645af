"""How images become 8-bit RGB where their numbers are no bytes or their bands no colours: part of
the preprocessing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import UsageError

Range = tuple[float, float]
"""Which number is black, and which white; what lies beyond is clipped."""
Ranges = Range | Mapping[str, Range] | Literal["image"] | None
"""One for all, one for each storage type, or each image's own extremes."""

PER_IMAGE: Literal["image"] = "image"
UNIT: Range = (0.0, 1.0)
SIXTEEN_BITS: Range = (0.0, 65535.0)
BYTE: Range = (0.0, 255.0)
TAIL = 0.001  # share of the pixels that may lie below black, and above white
BANDS = (1, 3)  # how many can be chosen: grey, or red, green and blue


class UnknownRange(Exception):
    """Numbers of which nobody said which are black and white."""


@dataclass(frozen=True)
class Reading:
    """The default suits files that say themselves what their numbers mean.

    Whatever is given wins over what a file declares (fewer bits than its type has, MaxSampleValue),
    that over what was measured; what none of them tells is 0 to 65535 for integers and 0 to 1 for
    floats, and refused beyond.
    """

    value_range: Ranges = None
    """None where nothing was measured yet; an empty mapping where nothing may be."""
    bands: tuple[int, ...] = ()
    """Of TIFF files, from 1: red, green and blue, or one alone as grey; their own colours where
    there are none.
    """

    def range_of(
        self, storage: str, declared: Range | None, values: npt.NDArray[np.generic]
    ) -> Range:
        """Black and white of one image.

        Args:
            storage: type of its numbers, as images.deep names them.

        Raises:
            UnknownRange: nothing tells, and the numbers do not fit the usual range of their type.
        """
        if storage.startswith("uint8"):
            return BYTE
        if self.value_range == PER_IMAGE:
            return extremes(values)
        if isinstance(self.value_range, tuple):
            return self.value_range
        known = declared or (self.value_range or {}).get(storage)
        return known or _usual(storage, values)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From a table's preprocessing."""
        value_range = config.get("value_range")
        match value_range:
            case Mapping():
                value_range = {storage: (low, high) for storage, (low, high) in value_range.items()}
            case [low, high]:
                value_range = (low, high)
        return cls(value_range, tuple(config.get("bands") or ()))

    def to_config(self) -> dict[str, Any]:
        """What stands in a table's preprocessing; nothing where the images say all themselves."""
        config: dict[str, Any] = {}
        match self.value_range:
            case Mapping() if self.value_range:
                config["value_range"] = {
                    storage: list(found) for storage, found in sorted(self.value_range.items())
                }
            case tuple():
                config["value_range"] = list(self.value_range)
            case "image":
                config["value_range"] = PER_IMAGE
        return config | ({"bands": list(self.bands)} if self.bands else {})


PLAIN = Reading()


def as_reading(value_range: Ranges, bands: Sequence[int]) -> Reading:
    """A reading as callers give it.

    Raises:
        UsageError: a range whose black is not less than its white, or other than one or three bands
            from 1.
    """
    if isinstance(value_range, list | tuple):
        limits = [float(limit) for limit in value_range]
        if len(limits) != 2 or not limits[0] < limits[1]:
            raise UsageError(f"value_range={value_range} is not (low, high), such as (0, 4095).")
        value_range = limits[0], limits[1]
    if isinstance(value_range, str) and value_range != PER_IMAGE:
        raise UsageError(f"value_range={value_range!r} is neither (low, high) nor '{PER_IMAGE}'.")
    if bands and (len(bands) not in BANDS or min(bands) < 1):
        raise UsageError(
            f"bands={tuple(bands)} are not one or three numbers from 1, such as (3, 2, 1)."
        )
    return Reading(value_range, tuple(bands))


def parse_range(text: str) -> Range | Literal["image"]:
    """`0,4095`, or `image`.

    Raises:
        ValueError: neither.
    """
    if text == PER_IMAGE:
        return PER_IMAGE
    low, high = (float(part) for part in text.split(","))
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError("black must be less than white")
    return low, high


def parse_bands(text: str) -> tuple[int, ...]:
    """`3,2,1`, or `4`.

    Raises:
        ValueError: no list of one or three numbers from 1.
    """
    bands = tuple(int(part) for part in text.split(","))
    if len(bands) not in BANDS or min(bands) < 1:
        raise ValueError("one or three numbers from 1")
    return bands


def extremes(values: npt.NDArray[np.generic]) -> Range:
    """The least and the largest finite number; some range above it where there is only one, or
    none.
    """
    low, high = np.inf, -np.inf
    for row in values:  # as float64, all of a large image would take several times its own memory
        numbers = row.astype(np.float64)
        finite = np.isfinite(numbers)
        low = min(low, float(numbers.min(where=finite, initial=np.inf)))
        high = max(high, float(numbers.max(where=finite, initial=-np.inf)))
    if low > high:
        return UNIT
    return low, high if high > low else low + 1


def measured(storage: str, values: Sequence[npt.NDArray[np.float64]]) -> Range:
    """The range of a whole source, so that it is the same for all of its images.

    Args:
        values: finite numbers of some of its images, each (n,).
    """
    pixels = np.concatenate(values)
    if storage.startswith("float") and _fits(pixels, UNIT):
        return UNIT
    if significant := _significant_bits(storage):
        aligned_right = (0.0, float(2**significant - 1))
        return aligned_right if _fits(pixels, aligned_right) else SIXTEEN_BITS
    low, high = (float(value) for value in np.quantile(pixels, [TAIL, 1 - TAIL]))
    if low < high:
        return low, high
    low, high = float(pixels.min()), float(pixels.max())
    if low < high:
        return low, high
    return SIXTEEN_BITS if _fits(pixels, SIXTEEN_BITS) else (low, low + 1)


def _significant_bits(storage: str) -> int:
    """Of `uint16 of 12 bits`; 0 where nothing is said of that."""
    _, found, bits = storage.partition(" of ")
    return int(bits.split()[0]) if found else 0


def _usual(storage: str, values: npt.NDArray[np.generic]) -> Range:
    usual = UNIT if storage.startswith("float") else SIXTEEN_BITS
    if storage.startswith("uint16") or _fits(values, usual):
        return usual
    low, high = extremes(values)
    raise UnknownRange(
        f"{storage} numbers from {low:g} to {high:g}, and nothing tells which are black and white; "
        f"give the value range, such as {low:g},{high:g}"
    )


def _fits(values: npt.NDArray[np.generic], limits: Range) -> bool:
    """Whether all but a few of the finite numbers lie between the limits, which belong to the
    range.
    """
    beyond = total = 0
    for row in np.atleast_2d(values):
        numbers = row[np.isfinite(row)]
        total += numbers.size
        beyond += int(((numbers < limits[0]) | (numbers > limits[1])).sum())
    return beyond <= TAIL * total
