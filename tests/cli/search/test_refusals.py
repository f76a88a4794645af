"""What `pauc search` refuses: each in one line, and before a model is loaded."""

from pathlib import Path

import pytest
from searched_photos import FILES, rewrite

from pauc_hub.cli import run
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.stored import read_table
from pauc_hub.tables.table import Provenance

HELP = "`pauc search --help` shows what there is."
IN = ("--in", "photos.parquet")
NAMELESS = (
    "'photos.parquet' was made by a model named 'tiny', which is none of those here by name. "
    "Give its folder with -m."
)
CASES: list[tuple[tuple[str, ...], int, str]] = [
    (
        ("a.png", "--in", "none.parquet"),
        2,
        f"Invalid value for '--in': path 'none.parquet' does not exist. {HELP}",
    ),
    (("a.png",), 2, f"Missing option '--in'. {HELP}"),
    (IN, 2, f"Missing argument 'images'. {HELP}"),
    (
        ("a.png", *IN, "-k", "0"),
        2,
        f"Invalid value for '-k': Input should be greater than or equal to 1. {HELP}",
    ),
    (
        ("a.png", *IN, "-k", "6"),
        2,
        "-k 6 is not between 1 and 5, the images to search among in 'photos.parquet'.",
    ),
    (
        ("query.png", *IN, "-k", "6"),
        2,
        "-k 6 is not between 1 and 5, the images to search among in 'photos.parquet'.",
    ),
    (
        ("a.png", *IN, "-k", "5"),
        2,
        "-k 5 is not between 1 and 4, the images to search among in 'photos.parquet'.",
    ),
    (("a.png", "--in", "empty.parquet"), 2, "'empty.parquet' holds no images to search among."),
    (
        ("z.png", *IN, "-k", "1"),
        2,
        "'z.png' is neither a file nor a path in 'photos.parquet', such as 'a.png'.",
    ),
    (
        ("note.png", *IN, "-k", "1"),
        1,
        (
            "'note.png' cannot be searched with: not an image of a known format "
            "(JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF, JPEG2000, PPM, TGA)."
        ),
    ),
    (
        ("photos", *IN, "-k", "1"),
        1,
        "'photos' cannot be searched with: a folder, pipe, socket or device, not a file.",
    ),
    (
        ("a.png", *IN, "--html", "note.png"),
        1,
        "'note.png' exists. Name another place, or give --overwrite.",
    ),
    (("a.png", *IN, "--html", "photos"), 1, "'photos' is a folder. Name another place."),
    (
        ("a.png", *IN, "--html", "no/x.html"),
        2,
        "'no/x.html' cannot be written: there is no such folder. Name another place.",
    ),
    (("query.png", *IN, "-k", "1"), 1, NAMELESS),
    (
        ("query.png", *IN, "-k", "1", "-m", "pauc_resnet5"),
        1,
        "unknown model 'pauc_resnet5'. Did you mean 'pauc_resnet50'? `pauc models` lists all.",
    ),
]


@pytest.fixture
def obstacles(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the way; and no model may be loaded to notice it."""
    monkeypatch.setattr("pauc_hub.inference.model.load", lambda *_, **__: pytest.fail("loaded"))
    Path("note.png").write_text("text")
    about = Provenance("tiny", "0" * 64, "backbone", {}, "fp32", "photos", "0")
    with open_output(Path("empty.parquet"), 96, 0, about):
        pass


@pytest.mark.usefixtures("obstacles")
@pytest.mark.parametrize(
    ("arguments", "code", "message"), CASES, ids=[" ".join(case[0]) for case in CASES]
)
def test_one_line_says_what_is_wrong(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().rglob("*"))
    assert run(["search", *arguments]) == code
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.usefixtures("obstacles")
def test_a_table_of_other_weights_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    made_by = read_table(Path("photos.parquet")).provenance.weights_sha256[:12]
    assert run(["search", "query.png", *IN, "-k", "1", "-m", "pauc_resnet18"]) == 1
    line = capsys.readouterr().err
    assert line.startswith(
        f"error: 'photos.parquet' was made by 'tiny' with weights of sha256 {made_by}…, and "
        "those in '"
    )
    assert line.endswith("…. Give the model that made it with -m.\n")
    assert line.count("\n") == 1


@pytest.mark.usefixtures("here")
def test_a_table_of_other_preprocessing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    table = read_table(Path("photos.parquet"))
    rewrite("t.parquet", table, preprocessing=table.provenance.preprocessing | {"crop_pct": 1.0})
    assert run(["search", "query.png", "--in", "t.parquet", "-k", "1", *FILES]) == 1
    assert capsys.readouterr().err == (
        "error: the model in 'model' prepares images otherwise than it did for 't.parquet'. "
        "Embed them again.\n"
    )


@pytest.mark.usefixtures("here")
def test_what_is_no_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "a.png", "--in", "query.png"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: 'query.png' cannot be read as Parquet (")
    assert line.count("\n") == 1
