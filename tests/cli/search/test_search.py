"""`pauc search` as a whole: exit codes, what is printed where, and the files that are left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from searched_photos import FILES, rewrite

from pauc_hub.cli import run
from pauc_hub.inference import model
from pauc_hub.models.folder import ModelFolder
from pauc_hub.retrieval import faiss_index, neighbors
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.stored import read_table


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
    command = ["search", "query.png", "a.png", "--in", "photos.parquet", "-k", "2", "--json"]
    assert run([*command, *FILES]) == 0
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
    words = ["search", "query.png", "a.png", "--in", "photos.parquet", "-k", "4"]
    command = [*words, "--html", "x.html", *FILES]
    assert run([*command, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    text = Path("x.html").read_text()
    assert text.count("<figure") == 10
    assert text.count("<img") == 9 - ("a.png" in text.split("</section>")[0])
    assert text.count("No such file or directory") == 10 - text.count("<img")
    assert run(command) == 1
    assert capsys.readouterr() == (
        "",
        "error: 'x.html' exists. Name another place, or give --overwrite.\n",
    )
    assert run([*command, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["html"] == "x.html"


@pytest.mark.usefixtures("here")
def test_names_that_are_not_utf8_are_found_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    name = Path("photos") / os.fsdecode(b"caf\xe9.png")
    Path("photos/a.png").rename(name)
    assert run(["embed", "photos", *FILES, "--overwrite", "--quiet"]) == 0
    options = ["--in", "photos.parquet", "-k", "1", "--html", "x.html", "--json"]
    assert run(["search", str(name), *options]) == 0
    assert json.loads(capsys.readouterr().out)["queries"][0]["in_table"]
    assert Path("x.html").read_text().count("<img") == 2
    assert run(["search", "caf\\xe9.png", *options, "--overwrite"]) == 0
    assert Path("x.html").read_text().count("<img") == 2


@pytest.mark.usefixtures("here")
def test_a_table_of_one_image_knows_the_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["embed", "photos/a.png", *FILES, "--quiet"]) == 0
    command = ["search", "query.png", "--in", "photos/a.parquet", "-k", "1", "--html", "x.html"]
    assert run([*command, *FILES]) == 0
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
