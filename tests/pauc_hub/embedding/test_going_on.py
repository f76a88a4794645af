"""A run of `embed_files` that was stopped: the same call goes on with it, another is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from watched_embedding import embed, left, stop_after

from pauc_hub.embedding.embed_files import embed_files
from pauc_hub.embedding.plan import Form
from pauc_hub.errors import Interrupted, PaucError, UnfinishedRun
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.sources import open_source


def stop(photos: Path, encoder: Any, **options: Any) -> None:
    """A run that is stopped after four images."""
    stop_after(encoder, 2, KeyboardInterrupt)
    with pytest.raises(Interrupted):
        embed(photos, encoder, batch_size=2, **options)


def tables(photos: Path) -> list[bytes]:
    return [photos.with_name(f"photos{suffix}.parquet").read_bytes() for suffix in ("", ".errors")]


def made_at_once(photos: Path, encoder: Any) -> list[bytes]:
    """The tables of a run that nothing stops, which are taken away again."""
    embed(photos, encoder, batch_size=2)
    whole = tables(photos)
    for suffix in ("", ".errors"):
        photos.with_name(f"photos{suffix}.parquet").unlink()
    return whole


@pytest.mark.parametrize(
    "stop", [RuntimeError("broken"), KeyboardInterrupt(), PaucError("no memory")]
)
@pytest.mark.parametrize("batches", [1, 2, 3])
def test_the_same_call_goes_on_and_makes_the_same_tables(
    photos: Path, mean_colour: Any, stop: BaseException, batches: int
) -> None:
    whole = made_at_once(photos, mean_colour())
    first, second = mean_colour(), mean_colour()
    stop_after(first, batches, stop)
    with pytest.raises(Interrupted if isinstance(stop, KeyboardInterrupt) else type(stop)):
        embed(photos, first, batch_size=2)
    assert left(photos) == [".photos.parquet.unfinished", "photos"]
    summary = embed(photos, second, batch_size=2)
    assert sum(first.batches) + sum(second.batches) == 7
    assert summary.resumed == 2 * batches
    assert (summary.images, summary.unreadable) == (7, 2)
    assert tables(photos) == whole


def test_ctrl_c_says_how_many_are_done_and_that_the_same_command_goes_on(
    photos: Path, encoder: Any
) -> None:
    stop_after(encoder, 2, KeyboardInterrupt)
    with pytest.raises(Interrupted) as stop:
        embed(photos, encoder, batch_size=2)
    assert (
        str(stop.value)
        == "interrupted; 4 of 9 images are done, and the same command goes on from there."
    )


def test_batches_may_be_smaller_after_a_stop(photos: Path, encoder: Any, mean_colour: Any) -> None:
    whole = made_at_once(photos, mean_colour())
    stop_after(encoder, 1, torch.OutOfMemoryError)
    with pytest.raises(PaucError):
        embed(photos, encoder, batch_size=4)
    embed(photos, mean_colour(), batch_size=1)
    assert tables(photos) == whole


CHANGES: list[tuple[str, object, str]] = [
    ("name", "median", "model (mean, now median)"),
    ("weights_sha256", "01", "weights"),
    ("precision", "bf16", "precision (fp32, now bf16)"),
    ("preprocessing", Preprocessing(size=9, crop_pct=1.0), "preprocessing"),
]


@pytest.mark.parametrize(("attribute", "value", "named"), CHANGES, ids=[row[0] for row in CHANGES])
def test_another_model_does_not_go_on(
    photos: Path, mean_colour: Any, attribute: str, value: object, named: str
) -> None:
    stop(photos, mean_colour())
    other = mean_colour()
    setattr(other, attribute, value)
    with pytest.raises(UnfinishedRun) as refusal:
        embed(photos, other)
    assert str(refusal.value) == (
        f"an unfinished run for '{photos.with_name('photos.parquet')}' had another {named}. "
        "Give the same command to go on with it, or restart=True to drop it and start anew."
    )
    assert embed(photos, other, restart=True).resumed == 0
    assert left(photos) == ["photos", "photos.errors.parquet", "photos.parquet"]


def test_other_images_spaces_and_folders_do_not_go_on(
    photos: Path, mean_colour: Any, tmp_path: Path
) -> None:
    stop(photos, mean_colour())
    with pytest.raises(UnfinishedRun, match=r" had another space \(backbone, now projection\)\. "):
        embed(photos, mean_colour(), space="projection")
    (photos / "0.png").rename(photos / "1.png")
    with pytest.raises(UnfinishedRun, match=r" had another list of images\. "):
        embed(photos, mean_colour())
    (photos / "1.png").unlink()
    with pytest.raises(
        UnfinishedRun, match=r" had another number of images \(9, now 8\), list of images\. "
    ):
        embed(photos, mean_colour())
    (photos / "0.png").write_bytes(b"")
    moved = photos.rename(tmp_path / "moved")
    with pytest.raises(
        UnfinishedRun, match=r" had another folder of images \(.*/photos, now .*/moved\)\. "
    ):
        embed_files(mean_colour(), open_source(moved), tmp_path / "photos.parquet", quiet=True)
    moved.rename(photos)
    assert embed(photos, mean_colour()).resumed == 4


def test_a_damaged_description_is_refused_and_a_damaged_shard_is_made_again(
    photos: Path, mean_colour: Any
) -> None:
    whole = made_at_once(photos, mean_colour())
    working = photos.with_name(".photos.parquet.unfinished")
    stop(photos, mean_colour())
    (shard,) = working.glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:-20])
    assert embed(photos, mean_colour(), batch_size=2).resumed == 0
    assert tables(photos) == whole
    stop(photos, mean_colour(), overwrite=True)
    (working / "run.json").write_text("{")
    with pytest.raises(
        UnfinishedRun,
        match=r"run\.json' is damaged\. Give restart=True to drop it and start anew\.$",
    ):
        embed(photos, mean_colour(), overwrite=True)
    assert embed(photos, mean_colour(), overwrite=True, restart=True).resumed == 0


def test_a_stopped_run_leaves_the_table_that_it_would_replace(
    photos: Path, mean_colour: Any
) -> None:
    embed(photos, mean_colour())
    whole = tables(photos)
    stop(photos, mean_colour(), overwrite=True)
    assert tables(photos) == whole
    assert embed(photos, mean_colour()).done_before
    assert embed(photos, mean_colour(), overwrite=True).resumed == 4


def test_two_runs_for_one_output_do_not_meet(photos: Path, encoder: Any, mean_colour: Any) -> None:
    refusals = []
    encode = encoder.encode

    def encode_beside(batch: torch.Tensor, space: str) -> Any:
        with pytest.raises(PaucError) as refusal:
            embed(photos, mean_colour())
        refusals.append(str(refusal.value))
        return encode(batch, space)

    encoder.encode = encode_beside
    embed(photos, encoder)
    output = photos.with_name("photos.parquet")
    assert refusals == [
        f"another process is writing '{output}'. Wait for it, or name another output."
    ]


def test_numbers_too_large_for_float16_are_told_of_at_once_and_lose_nothing(
    photos: Path, mean_colour: Any
) -> None:
    """Not when all images are done; and what is done is taken over in the other form."""
    encoder, other = mean_colour(), mean_colour()
    plain = encoder.encode
    encoder.encode = other.encode = lambda batch, space: 2e3 * plain(batch, space)
    with pytest.raises(
        PaucError, match=r"^the embedding of '4\.png' holds 80000, and float16 ends at 65504"
    ):
        embed(photos, encoder, form=Form("float16"), batch_size=2)
    assert embed(photos, other).resumed == 4  # of nine: two batches
