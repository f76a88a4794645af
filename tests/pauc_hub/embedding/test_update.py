"""Taking over what did not change: by itself, then on folders and their tables."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pauc_hub.embedding.embed_files import Summary, embed_files
from pauc_hub.embedding.plan import Form
from pauc_hub.embedding.shards import Outcomes
from pauc_hub.embedding.update import Row, merged
from pauc_hub.errors import Interrupted, OutputExists
from pauc_hub.sources import open_source
from pauc_hub.sources.folders import ImageFile
from pauc_hub.tables.stored import read_receipt, read_table
from pauc_hub.tables.sums import read_image_sums
from pauc_hub.tables.table import Unreadable


def row(path: str, value: float) -> Row:
    return Row(path, np.array([value], np.float32), np.array([1, 2], np.int32), "earlier")


def outcomes(paths: list[str], unreadable: list[str]) -> Outcomes:
    sizes = np.ones((len(paths), 2), np.int32)
    reasons = [Unreadable(name, "empty", "") for name in unreadable]
    sums: list[str | None] = ["added"] * len(paths)
    return Outcomes(paths, np.full((len(paths), 1), 2, np.float32), sizes, sums, reasons, 0.0)


NAMES = st.sets(st.text("ab/.é", min_size=1, max_size=4), max_size=12)


@given(earlier=NAMES, listed=NAMES, changed=NAMES, broken=NAMES, parts=st.integers(1, 3))
def test_merging_gives_each_listed_image_its_newest_row(
    earlier: set[str], listed: set[str], changed: set[str], broken: set[str], parts: int
) -> None:
    embedded = sorted((listed - earlier) | (listed & changed))
    added = (
        [
            outcomes(
                [name for name in some if name not in broken],
                [name for name in some if name in broken],
            )
            for some in (
                embedded[start::1][: -(-len(embedded) // parts)]
                for start in range(0, len(embedded), -(-len(embedded) // parts))
            )
        ]
        if embedded
        else []
    )
    entries = [ImageFile(name, "/nowhere") for name in sorted(listed)]
    rows = list(merged(entries, [row(name, 1) for name in sorted(earlier)], added))
    assert all(
        found.sum == ("added" if found.embedding.item() == 2 else "earlier") for found in rows
    )
    expected = {name: 2.0 if name in embedded else 1.0 for name in sorted(listed)}
    assert {found.path: found.embedding.item() for found in rows} == {
        name: value for name, value in expected.items() if not (name in embedded and name in broken)
    }
    assert [found.path for found in rows] == sorted(found.path for found in rows)


# ---------------------------------------------------------------- on folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images of one colour each, (10 i, 0, 0)."""
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for i in range(6):
        paint(root / ("sub" if i % 2 else ".") / f"{i}.png", 10 * i)
    return root


def paint(path: Path, red: int) -> None:
    Image.new("RGB", (20, 30), (red, 0, 0)).save(path)


def embed(photos: Path, encoder: Any, suffix: str = ".parquet", **options: Any) -> Summary:
    output = photos.with_name(f"photos{suffix}")
    return embed_files(
        encoder, open_source(photos), output, **{"quiet": True, "batch_size": 2} | options
    )


def sums_of(photos: Path, paths: list[str]) -> list[str]:
    return [hashlib.sha256((photos / path).read_bytes()).hexdigest() for path in paths]


def without_sums(table: Path) -> None:
    """As versions before wrote it."""
    pq.write_table(pq.read_table(table).drop_columns(["sha256"]), table)


def change(photos: Path) -> None:
    """One image comes before, between and after the others each, one goes, one is painted anew, one
    breaks.
    """
    paint(photos / "!.png", 91)
    paint(photos / "sub" / "2.png", 92)
    paint(photos / "z.png", 93)
    (photos / "sub" / "3.png").unlink()
    paint(photos / "4.png", 94)
    (photos / "0.png").write_text("broken")


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".safetensors"])
@pytest.mark.parametrize("form", [Form(), Form("float16")], ids=lambda form: form.dtype)
def test_an_update_makes_the_table_of_a_fresh_run_from_the_new_images_alone(
    photos: Path, mean_colour: Any, suffix: str, form: Form
) -> None:
    embed(photos, mean_colour(), suffix, form=form)
    change(photos)
    encoder = mean_colour()
    summary = embed(photos, encoder, suffix, form=form, update=True)
    assert sum(encoder.batches) == 4  # the broken one is no image
    assert (summary.images, summary.unreadable, summary.resumed) == (7, 1, 3)
    updated = read_table(summary.output)
    errors = photos.with_name("photos.errors.parquet").read_bytes()
    fresh = embed_files(
        mean_colour(),
        open_source(photos),
        photos.with_name(f"fresh{suffix}"),
        form=form,
        quiet=True,
    )
    again = read_table(fresh.output)
    assert updated.paths == again.paths == sorted(again.paths)
    assert np.array_equal(updated.embeddings, again.embeddings)
    assert np.array_equal(updated.sizes, again.sizes)
    assert (
        [*read_image_sums(summary.output)]
        == [*read_image_sums(fresh.output)]
        == sums_of(photos, again.paths)
    )
    assert pq.read_table(photos.with_name("fresh.errors.parquet")).equals(
        pq.read_table(photos.with_name("photos.errors.parquet"))
    )
    assert errors


@pytest.mark.parametrize("changes", [True, False])
def test_an_update_fills_in_the_sums_that_an_older_table_lacks(
    photos: Path, mean_colour: Any, changes: bool
) -> None:
    first = embed(photos, mean_colour())
    without_sums(first.output)
    assert [*read_image_sums(first.output)] == [None] * 6
    if changes:
        change(photos)
    encoder = mean_colour()
    table = read_table(embed(photos, encoder, update=True).output)
    assert sum(encoder.batches) == (4 if changes else 0)
    assert [*read_image_sums(first.output)] == sums_of(photos, table.paths)


def test_an_older_table_without_sums_is_complete_as_it_is(photos: Path, mean_colour: Any) -> None:
    first = embed(photos, mean_colour())
    without_sums(first.output)
    assert embed(photos, mean_colour()).done_before
    assert [*read_image_sums(first.output)] == [None] * 6


def test_an_update_repairs_what_was_unreadable(photos: Path, mean_colour: Any) -> None:
    (photos / "0.png").write_text("broken")
    assert embed(photos, mean_colour()).unreadable == 1
    paint(photos / "0.png", 7)
    encoder = mean_colour()
    summary = embed(photos, encoder, update=True)
    assert (sum(encoder.batches), summary.images, summary.unreadable) == (1, 6, 0)
    assert not photos.with_name("photos.errors.parquet").exists()


def test_an_update_where_nothing_changed_does_nothing(photos: Path, mean_colour: Any) -> None:
    embed(photos, mean_colour())
    before = photos.with_name("photos.parquet").stat()
    encoder = mean_colour()
    summary = embed(photos, encoder, update=True)
    assert encoder.batches == []
    assert summary.done_before
    assert photos.with_name("photos.parquet").stat().st_ino == before.st_ino


def test_the_first_update_is_a_plain_run(photos: Path, mean_colour: Any) -> None:
    assert embed(photos, mean_colour(), update=True).resumed == 0
    assert read_receipt(photos.with_name("photos.parquet")) is not None


def test_an_image_painted_anew_under_its_old_name_is_embedded_again(
    photos: Path, mean_colour: Any
) -> None:
    embed(photos, mean_colour())
    paint(photos / "4.png", 200)
    encoder = mean_colour()
    assert embed(photos, encoder, update=True).resumed == 5
    table = read_table(photos.with_name("photos.parquet"))
    assert table.embeddings[table.paths.index("4.png")].tolist() == [200.0, 0.0, 0.0]


def test_images_that_only_went_away_leave_the_table(photos: Path, mean_colour: Any) -> None:
    embed(photos, mean_colour())
    (photos / "0.png").unlink()
    encoder = mean_colour()
    summary = embed(photos, encoder, update=True)
    assert (encoder.batches, summary.images) == ([], 5)
    assert "0.png" not in read_table(photos.with_name("photos.parquet")).paths


def test_a_stopped_update_leaves_the_table_and_goes_on(photos: Path, mean_colour: Any) -> None:
    embed(photos, mean_colour())
    before = photos.with_name("photos.parquet").read_bytes()
    change(photos)
    encoder = mean_colour()
    encode = encoder.encode

    def stop(batch: Any, space: str) -> Any:
        if encoder.batches:
            raise KeyboardInterrupt
        return encode(batch, space)

    encoder.encode = stop
    with pytest.raises(Interrupted, match=r"^interrupted; 2 of 5 images are done, "):
        embed(photos, encoder, update=True)
    assert photos.with_name("photos.parquet").read_bytes() == before
    again = mean_colour()
    assert embed(photos, again, update=True).images == 7
    assert sum(encoder.batches) + sum(again.batches) == 4


def test_a_table_of_another_model_is_not_updated(photos: Path, mean_colour: Any) -> None:
    embed(photos, mean_colour())
    other = mean_colour()
    other.weights_sha256 = "01"
    with pytest.raises(OutputExists) as refusal:
        embed(photos, other, update=True)
    assert str(refusal.value) == (
        f"'{photos.with_name('photos.parquet')}' cannot be updated: it has another weights. "
        "overwrite=True embeds all images anew."
    )


def test_another_form_is_not_an_update(photos: Path, mean_colour: Any) -> None:
    embed(photos, mean_colour())
    with pytest.raises(
        OutputExists,
        match=r"it has another dtype \(float32, now float16\)\. overwrite=True embeds",
    ):
        embed(photos, mean_colour(), update=True, form=Form("float16"))


def test_an_update_keeps_the_components_it_finds(photos: Path, mean_colour: Any) -> None:
    embed(photos, mean_colour(), form=Form(pca=2))
    table = read_table(photos.with_name("photos.parquet"))
    paint(photos / "z.png", 250)
    embed(photos, mean_colour(), form=Form(pca=2), update=True)
    updated = read_table(photos.with_name("photos.parquet"))
    assert updated.provenance == table.provenance
    kept = [updated.paths.index(path) for path in table.paths]
    assert np.array_equal(updated.embeddings[kept], table.embeddings)


# ---------------------------------------------------------------- a table that is complete already


def test_the_same_call_over_a_finished_table_does_nothing(photos: Path, mean_colour: Any) -> None:
    (photos / "broken.png").write_text("text")
    made = embed(photos, mean_colour())
    encoder = mean_colour()
    again = embed(photos, encoder)
    assert encoder.batches == []
    assert (again.images, again.unreadable, again.resumed, again.errors) == (6, 1, 7, made.errors)


def test_a_table_of_other_images_or_another_model_is_not_touched(
    photos: Path, mean_colour: Any
) -> None:
    embed(photos, mean_colour())
    encoder = mean_colour()
    encoder.name = "median"
    with pytest.raises(OutputExists) as refusal:
        embed(photos, encoder)
    start = f"'{photos.with_name('photos.parquet')}' exists, with another "
    assert (
        str(refusal.value)
        == f"{start}model (mean, now median). Name another place, or give overwrite=True."
    )
    paint(photos / "7.png", 1)
    with pytest.raises(OutputExists) as refusal:
        embed(photos, mean_colour())
    assert str(refusal.value) == (
        f"{start}number of images (6, now 7), list of images. Name another place, or give "
        "overwrite=True to embed all, "
        "or update=True to embed what changed."
    )
