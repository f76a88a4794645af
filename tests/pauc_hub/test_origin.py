"""The origin of embeddings: what is compared, what is shown, and how a mixture is refused."""

from dataclasses import replace
from typing import Any

import pytest

from pauc_hub.errors import OriginMismatch
from pauc_hub.origin import Origin, require_same_origin

ONE = Origin(
    "aa" * 32,
    "backbone",
    {"input_size": [3, 64, 64], "range": None},
    None,
    "net",
    "fp32",
    "/photos",
    "0.1",
)


@pytest.mark.parametrize("shown", ["model", "precision", "root", "package_version"])
def test_what_is_shown_is_not_compared(shown: str) -> None:
    change: dict[str, Any] = {shown: "another"}
    require_same_origin(ONE, "a.parquet", replace(ONE, **change), "b.parquet")


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"weights_sha256": "bb" * 32}, "weights"),
        ({"space": "projection"}, "space"),
        ({"preprocessing": {"input_size": [3, 64, 64], "range": [0, 9]}}, "range (none, [0, 9])"),
        ({"preprocessing": {"input_size": [3, 96, 96]}}, "input_size ([3, 64, 64], [3, 96, 96])"),
        ({"pca": "cc" * 32}, "PCA"),
    ],
)
def test_a_mixture_is_refused_with_both_names_and_the_way_out(
    change: dict[str, Any], differs: str
) -> None:
    other = replace(ONE, **change)
    with pytest.raises(OriginMismatch) as refusal:
        require_same_origin(ONE, "a.parquet", other, "b.parquet")
    message = str(refusal.value)
    assert "'a.parquet' was made by net (weights aaaaaaaaaaaa…, backbone space)" in message
    assert "'b.parquet' by net" in message
    assert f"differ in {differs}" in message
    assert "`pauc embed IMAGES --like TABLE`" in message


def test_it_survives_json() -> None:
    again = Origin.from_dict(ONE.to_dict())
    assert again.to_dict() == ONE.to_dict()
    assert Origin.from_dict({**ONE.to_dict(), "added_later": 1}) == ONE
