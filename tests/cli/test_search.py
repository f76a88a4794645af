"""`pauc search` as a whole: exit codes, what is printed where, and the files that are left."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.inference import model
from pauc_hub.models.folder import ModelFolder
from pauc_hub.retrieval import faiss_index, neighbors
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.stored import read_table
from pauc_hub.tables.table import Provenance, Table

NAMES = ["a.png", "b.JPG", "d.gif", "sub/c.webp", "sub/e.png"]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Table:
    """The five images, embedded once for all tests."""
    root = tmp_path_factory.mktemp("embedded") / "photos"
    save_pictures(root)
    options = ["-m", str(model_folder), "--device", "cpu", "--precision", "fp32", "--quiet"]
    assert run(["embed", str(root), *options]) == 0
    return read_table(root.with_suffix(".parquet"))


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path, embedded: Table
) -> None:
    """`photos/` with five images and its table, `model`, and `query.png`, which is `sub/c.webp` in
    other pixels.
    """
    monkeypatch.chdir(tmp_path)
    save_pictures(Path("photos"))
    _picture(3).resize((90, 90)).save("query.png")
    Path("model").symlink_to(model_folder)
    rewrite("photos.parquet", embedded, root=str(Path("photos").absolute()))


def save_pictures(root: Path) -> None:
    (root / "sub").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        _picture(i).save(root / name, quality=95)


def rewrite(path: str, table: Table, pca: Pca | None = None, **changes: Any) -> None:
    """The same table, except for what is said about it."""
    about, vectors = replace(table.provenance, **changes), table.embeddings.astype(np.float32)
    with open_output(Path(path), vectors.shape[1], len(vectors), about, pca=pca) as output:
        output.write(table.paths, vectors, table.sizes)


def _picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((80, 80), Image.Resampling.BICUBIC)


def cosines(query: str, table: str = "photos.parquet") -> list[tuple[float, str]]:
    """Of a stored image with the others, the largest first."""
    stored = read_table(Path(table))
    units = stored.embeddings / np.linalg.norm(stored.embeddings, axis=1, keepdims=True)
    scores = units @ units[stored.paths.index(query)]
    pairs = [
        (float(score), path)
        for score, path in zip(scores, stored.paths, strict=True)
        if path != query
    ]
    return sorted(pairs, reverse=True)


FILES = ("-m", "model", "--device", "cpu")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("word", ["sub/c.webp", "photos/sub/c.webp", "photos/../photos/sub/c.webp"])
def test_a_stored_image_needs_no_model_and_is_not_its_own_neighbour(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model").unlink()
    assert run(["search", word, "--in", "photos.parquet", "-k", "4"]) == 0
    printed = capsys.readouterr()
    lines = [
        f"{rank:5}  {score:7.4f}  {path}"
        for rank, (score, path) in enumerate(cosines("sub/c.webp"), start=1)
    ]
    assert printed.out == "\n".join([word, *lines]) + "\n"
    assert printed.err == ""


@pytest.mark.usefixtures("here")
def test_a_file_is_embedded_as_the_table_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["search", "query.png", "a.png", "--in", "photos.parquet", "-k", "2", "--json", *FILES])
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    first, second = answer.pop("queries")
    assert answer == {
        "table": "photos.parquet",
        "model": "tiny",
        "space": "backbone",
        "root": str(Path("photos").absolute()),
        "method": "exact",
        "html": None,
    }
    assert (first["image"], first["in_table"], len(first["neighbors"])) == ("query.png", False, 2)
    assert first["neighbors"][0]["path"] == "sub/c.webp"
    assert first["neighbors"][0]["score"] > 0.95
    assert second["in_table"]
    best = [(found["rank"], found["path"]) for found in second["neighbors"]]
    assert best == [(rank, path) for rank, (_, path) in enumerate(cosines("a.png")[:2], start=1)]
    assert [found["score"] for found in second["neighbors"]] == pytest.approx(
        [s for s, _ in cosines("a.png")[:2]], abs=1e-5
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_file_is_embedded_in_the_precision_of_the_table(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite("t.parquet", read_table(Path("photos.parquet")), precision=precision)
    real, asked = model.load, []

    def load(folder: ModelFolder, **options: Any) -> model.Model:
        asked.append(options)
        return real(folder, **options)

    monkeypatch.setattr(model, "load", load)
    assert run(["search", "query.png", "--in", "t.parquet", "-k", "1", *FILES]) == 0
    assert asked == [{"device": "cpu", "precision": precision, "image_size": 64}]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "options", [["--space", "projection"], ["-o", "v.npy"], ["-o", "v.safetensors"]]
)
def test_a_copy_of_an_image_finds_it_in_any_space_and_form(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table = options[1] if options[0] == "-o" else "v.parquet"
    output = ["-o", table] if options[0] != "-o" else []
    command = ["embed", "photos", *options, *output, *FILES, "--precision", "fp32", "--quiet"]
    assert run(command) == 0
    Path("photos/sub/e.png").rename("copy.png")
    assert run(["search", "copy.png", "--in", table, "-k", "1", "--json", *FILES]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert query["neighbors"] == [
        {"rank": 1, "score": pytest.approx(1, abs=1e-5), "path": "sub/e.png"}
    ]


@pytest.mark.usefixtures("here")
def test_a_table_that_was_projected_is_searched_with_projected_queries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = read_table(Path("photos.parquet"))
    rewrite("p.parquet", table, Pca.fit(table.embeddings.astype(np.float32), 3))
    Path("photos/sub/e.png").rename("copy.png")
    command = ["search", "copy.png", "--in", "p.parquet", "-k", "1", "--json", *FILES]
    assert run(command) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert query["neighbors"] == [
        {"rank": 1, "score": pytest.approx(1, abs=1e-4), "path": "sub/e.png"}
    ]
    Path("p.pca.safetensors").unlink()
    assert run(command) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: 'p.pca.safetensors' cannot be read")
    assert line.count("\n") == 1


@pytest.mark.usefixtures("here")
def test_the_page_shows_query_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/a.png").unlink()
    command = [
        "search",
        "query.png",
        "a.png",
        "--in",
        "photos.parquet",
        "-k",
        "4",
        "--html",
        "x.html",
        *FILES,
    ]
    assert run([*command, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    text = Path("x.html").read_text()
    assert text.count("<figure") == 10
    assert text.count("<img") == 9 - ("a.png" in text.split("</section>")[0])
    assert text.count("No such file or directory") == 10 - text.count("<img")
    assert run(command) == 1
    assert capsys.readouterr() == (
        "",
        ("error: 'x.html' exists. Name another place, or give --overwrite.\n"),
    )
    assert run([*command, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["html"] == "x.html"


@pytest.mark.usefixtures("here")
def test_names_that_are_not_utf8_are_found_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    name = Path("photos") / os.fsdecode(b"caf\xe9.png")
    Path("photos/a.png").rename(name)
    assert run(["embed", "photos", *FILES, "--overwrite", "--quiet"]) == 0
    command = [
        "search",
        str(name),
        "--in",
        "photos.parquet",
        "-k",
        "1",
        "--html",
        "x.html",
        "--json",
    ]
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["queries"][0]["in_table"]
    assert Path("x.html").read_text().count("<img") == 2
    assert run(["search", "caf\\xe9.png", *command[2:], "--overwrite"]) == 0
    assert Path("x.html").read_text().count("<img") == 2


@pytest.mark.usefixtures("here")
def test_a_table_of_one_image_knows_the_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["embed", "photos/a.png", *FILES, "--quiet"]) == 0
    assert (
        run(
            [
                "search",
                "query.png",
                "--in",
                "photos/a.parquet",
                "-k",
                "1",
                "--html",
                "x.html",
                *FILES,
            ]
        )
        == 0
    )
    assert Path("x.html").read_text().count("<img") == 2
    capsys.readouterr()
    assert run(["search", "photos/a.png", "--in", "photos/a.parquet", "-k", "1"]) == 2
    assert capsys.readouterr().err == "error: 'photos/a.parquet' holds no images to search among.\n"


@pytest.mark.usefixtures("here")
def test_a_large_table_without_faiss_says_what_would_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(neighbors, "INDEX_ROWS", 5)
    monkeypatch.setattr(faiss_index, "is_installed", lambda: False)
    command = ["search", "a.png", "--in", "photos.parquet", "-k", "4"]
    assert run(command) == 0
    note = (
        "note: an index would make searching so large a table faster: `pip install "
        "'pauc-hub[faiss-cpu]'`\n"
    )
    assert capsys.readouterr().err == note
    assert run([*command, "--quiet"]) == run([*command, "--exact"]) == 0
    assert capsys.readouterr().err == ""
    assert not Path("photos.faiss").exists()


@pytest.mark.usefixtures("here")
def test_a_large_table_keeps_its_index(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(neighbors, "INDEX_ROWS", 5)
    assert run(["search", "a.png", "--in", "photos.parquet", "-k", "4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["method"] == "index"
    assert [found["path"] for found in answer["queries"][0]["neighbors"]] == [
        path for _, path in cosines("a.png")
    ]
    assert Path("photos.faiss").exists()


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
        (f"Invalid value for '--in': path 'none.parquet' does not exist. {HELP}"),
    ),
    (("a.png",), 2, f"Missing option '--in'. {HELP}"),
    (IN, 2, f"Missing argument 'images'. {HELP}"),
    (
        ("a.png", *IN, "-k", "0"),
        2,
        (f"Invalid value for '-k': Input should be greater than or equal to 1. {HELP}"),
    ),
    (
        ("a.png", *IN, "-k", "6"),
        2,
        ("-k 6 is not between 1 and 5, the images to search among in 'photos.parquet'."),
    ),
    (
        ("query.png", *IN, "-k", "6"),
        2,
        ("-k 6 is not between 1 and 5, the images to search among in 'photos.parquet'."),
    ),
    (
        ("a.png", *IN, "-k", "5"),
        2,
        ("-k 5 is not between 1 and 4, the images to search among in 'photos.parquet'."),
    ),
    (("a.png", "--in", "empty.parquet"), 2, "'empty.parquet' holds no images to search among."),
    (
        ("z.png", *IN, "-k", "1"),
        2,
        ("'z.png' is neither a file nor a path in 'photos.parquet', such as 'a.png'."),
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
        ("'photos' cannot be searched with: a folder, pipe, socket or device, not a file."),
    ),
    (
        ("a.png", *IN, "--html", "note.png"),
        1,
        ("'note.png' exists. Name another place, or give --overwrite."),
    ),
    (("a.png", *IN, "--html", "photos"), 1, "'photos' is a folder. Name another place."),
    (
        ("a.png", *IN, "--html", "no/x.html"),
        2,
        "'no/x.html' cannot be written: there is no such folder. Name another place.",
    ),
    (
        ("query.png", *IN, "-k", "1"),
        1,
        NAMELESS,
    ),
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


@pytest.mark.usefixtures("here")
def test_stored_images_are_searched_without_what_takes_seconds_to_import() -> None:
    program = (
        "import sys; from pauc_hub.cli import run; "
        "code = run(['search', 'a.png', '--in', 'photos.parquet', '-k', '1', '--html', "
        "'x.html', '--quiet']); "
        "print(code, *{'torch', 'timm', 'torchvision', 'faiss'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
