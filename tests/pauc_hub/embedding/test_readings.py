"""One value range for a table, whatever stops its run and whoever adds to it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.embedding.earlier import choose_reading
from pauc_hub.embedding.embed_files import Summary, embed_files
from pauc_hub.embedding.workspace import working_folder
from pauc_hub.errors import Interrupted, OutputExists, UnfinishedRun
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.sources import open_source
from pauc_hub.tables.stored import read_table

FIRST = (0.0, 300.0)


def write(root: Path, name: str, top: int) -> None:
    root.mkdir(exist_ok=True)
    Image.fromarray(np.linspace(0, top, 1024).reshape(32, 32).astype(np.uint16)).save(root / name)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    root = tmp_path / "scans"
    for i in range(4):
        write(root, f"{i}.png", 300)
    return root


def embed(root: Path, encoder: Any, given: Reading = PLAIN, **options: Any) -> Summary:
    """As `pauc embed` does."""
    output, source = root.with_name("t.parquet"), open_source(root)
    flags = {name: options.get(name, False) for name in ("overwrite", "restart")}
    reading = choose_reading(output, source, given, **flags)
    return embed_files(
        encoder, source, output, reading=reading, quiet=True, batch_size=2, **options
    )


def recorded(root: Path) -> Any:
    return read_table(root.with_name("t.parquet")).provenance.preprocessing.get("value_range")


def test_the_range_of_the_source_is_used_and_recorded(scans: Path, mean_colour: Any) -> None:
    embed(scans, mean_colour())
    assert recorded(scans) == {"uint16": [0, pytest.approx(300, abs=1)]}
    assert read_table(scans.with_name("t.parquet")).embeddings == pytest.approx(127.5, abs=3)


def test_tables_of_photographs_say_nothing_of_it(tmp_path: Path, mean_colour: Any) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    Image.new("RGB", (8, 8)).save(root / "a.png")
    embed(root, mean_colour())
    preprocessing = read_table(tmp_path / "t.parquet").provenance.preprocessing
    assert preprocessing == mean_colour.preprocessing.to_config()


def test_a_stopped_run_goes_on_with_its_own_range(scans: Path, mean_colour: Any) -> None:
    stopping = mean_colour()
    encode = stopping.encode

    def once(batch: Any, space: str) -> Any:
        if stopping.batches:
            raise KeyboardInterrupt
        return encode(batch, space)

    stopping.encode = once
    with pytest.raises(Interrupted):
        embed(scans, stopping)
    for i in range(4):
        write(scans, f"{i}.png", 600)  # another range, were it measured now
    with pytest.raises(UnfinishedRun, match="another preprocessing"):
        embed(scans, mean_colour(), Reading((0.0, 5.0)))
    summary = embed(scans, mean_colour())
    assert summary.resumed == 2
    assert recorded(scans)["uint16"][1] == pytest.approx(300, abs=1)
    assert not working_folder(scans.with_name("t.parquet")).exists()


def test_an_update_reads_new_images_as_the_old_ones_were(scans: Path, mean_colour: Any) -> None:
    embed(scans, mean_colour(), Reading(FIRST))
    write(scans, "9.png", 600)
    summary = embed(scans, mean_colour(), update=True)
    assert (summary.images, summary.resumed) == (5, 4)
    assert recorded(scans) == [0, 300]
    # clipped at 300
    assert read_table(scans.with_name("t.parquet")).embeddings[-1] == pytest.approx(191, abs=3)


def test_the_same_command_again_finds_the_table_complete(scans: Path, mean_colour: Any) -> None:
    embed(scans, mean_colour())
    for i in range(4):
        write(scans, f"{i}.png", 600)
    assert embed(scans, mean_colour()).done_before
    with pytest.raises(OutputExists, match="another preprocessing"):
        embed(scans, mean_colour(), Reading((0.0, 5.0)))
    embed(scans, mean_colour(), overwrite=True)
    assert recorded(scans)["uint16"][1] == pytest.approx(600, abs=2)


def test_images_left_with_few_levels_and_files_with_more_pages_are_counted(
    scans: Path, mean_colour: Any
) -> None:
    pages = [Image.new("L", (32, 32), grey) for grey in (7, 8)]
    pages[0].save(scans / "stack.tif", save_all=True, append_images=pages[1:])
    summary = embed(scans, mean_colour(), Reading((0.0, 65535.0)))
    assert (summary.few_levels, summary.more_pages) == (4, 1)


def test_counts_of_earlier_sittings_are_not_lost(scans: Path, mean_colour: Any) -> None:
    stopping = mean_colour()
    encode = stopping.encode

    def once(batch: Any, space: str) -> Any:
        if stopping.batches:
            raise KeyboardInterrupt
        return encode(batch, space)

    stopping.encode = once
    with pytest.raises(Interrupted):
        embed(scans, stopping, Reading((0.0, 65535.0)))
    assert embed(scans, mean_colour(), Reading((0.0, 65535.0))).few_levels == 4
