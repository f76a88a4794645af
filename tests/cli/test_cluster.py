"""`pauc cluster` and `pauc assign` as a whole: exit codes, what is printed where, and the files
that are left.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pauc_hub.cli import run
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.table import Provenance

PROVENANCE = Provenance(
    "net", "ab" * 32, "backbone", {"input_size": [3, 8, 8]}, "fp32", "/nowhere", "0.1"
)
FILES = [
    "t.assignments.parquet",
    "t.exemplars.csv",
    "t.prototypes.html",
    "t.prototypes.safetensors",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`t.parquet` holds 40 rows about 4 directions, `large.parquet` 600."""
    monkeypatch.chdir(tmp_path)
    write("t.parquet", 40)


def write(name: str, count: int, provenance: Provenance = PROVENANCE) -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal((count, 5))
    vectors = (np.eye(5)[np.arange(count) % 4] + noise).astype(np.float32)
    with open_output(Path(name), 5, count, provenance) as output:
        output.write([f"{i}.png" for i in range(count)], vectors, np.ones((count, 2), np.int32))


def printed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> tuple[str, str]:
    assert run(words) == status
    out, err = capsys.readouterr()
    return out, err


def test_cluster_tells_and_leaves_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "cluster", "t.parquet", "-k", "2,4")
    first, *lines = out.splitlines()
    assert first == "t.prototypes.safetensors: 2, 4 prototypes of 40 images"
    assert lines[0].split() == ["prototypes", "stability", "silhouette", "largest", "smallest"]
    assert lines[2].split()[0::3] == ["4", "10"]
    assert "uncalibrated: confidences and outliers need at least 500 images" in out
    assert err == (
        "note: 40 of the images on t.prototypes.html cannot be read where the table says they are\n"
    )
    assert sorted(path.name for path in Path().iterdir()) == sorted([*FILES, "t.parquet"])


def test_cluster_in_json_with_a_calibration(capsys: pytest.CaptureFixture[str]) -> None:
    write("large.parquet", 600)
    out, _ = printed(
        capsys,
        "cluster",
        "large.parquet",
        "-k",
        "4",
        "--json",
        "--quiet",
        "-o",
        "x.prototypes.safetensors",
    )
    told = json.loads(out)
    assert told["output"] == "x.prototypes.safetensors"
    assert told["images"] == 600
    assert [each["prototypes"] for each in told["granularities"]] == [4]
    assert sorted(told["granularities"][0]["sizes"]) == [150] * 4
    assert told["stability"] == [pytest.approx(1)]
    assert told["calibration"]["alpha"] == 0.05
    assert told["kept"] == 60
    out, err = printed(
        capsys, "assign", "large.parquet", "--prototypes", "x.prototypes.safetensors", "-o", "o.csv"
    )
    assert out.startswith(f"o.csv: 600 images; {told['outliers']} outliers (")
    assert "  4 of 4 prototypes; largest: " in out
    assert err == ""


def test_assign_without_a_calibration_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "cluster", "t.parquet", "-k", "4", "--quiet")
    Path("names.csv").write_text("prototype,name\n0,cats\n")
    words = [
        "assign",
        "t.parquet",
        "--prototypes",
        "t.prototypes.safetensors",
        "--names",
        "names.csv",
        "--overwrite",
    ]
    out, err = printed(capsys, *words)
    assert out == (
        "t.assignments.parquet: 40 images\n  4 of 4 prototypes; largest: cats (10), 1 (10), 2 "
        "(10), 3 (10)\n"
    )
    assert err == "note: these prototypes are uncalibrated: no confidences, no outliers\n"
    told = json.loads(printed(capsys, *words, "--json", "--exemplars", "1")[0])
    assert (told["calibrated"], told["outliers"], told["exemplars"]) == (
        False,
        None,
        "t.exemplars.csv",
    )
    assert told["granularities"][0]["largest"][0] == {"prototype": 0, "name": "cats", "images": 10}


def test_a_prototypes_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "cluster", "t.parquet", "-k", "4", "--quiet")
    Path("names.csv").write_text("prototype,name\n0,cats\n2,dogs\n")
    out, _ = printed(capsys, "cluster", "t.prototypes.safetensors", "--names", "names.csv")
    assert out == "t.prototypes.safetensors: 2 prototypes have a name\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            ["cluster", "t.parquet", "-k", "41"],
            2,
            "-k 41 is more than the 40 rows of 't.parquet'. Give 40 or less.",
        ),
        (["cluster", "t.parquet", "-k", "0"], 2, "-k 0 is not within 1 and 20000."),
        (
            ["cluster", "t.parquet", "-k", "a"],
            2,
            "-k 'a' is neither auto nor a list of numbers, such as 50,200,1000.",
        ),
        (["cluster", "empty.parquet"], 1, "'empty.parquet' holds no images."),
        (["cluster", "nothing"], 2, "no such file or folder: 'nothing'"),
        (
            ["cluster", "t.prototypes.safetensors"],
            2,
            "'t.prototypes.safetensors' is a prototypes file already.",
        ),
        (["assign", "t.parquet", "--prototypes", "none"], 1, "no such file: 'none'."),
        (
            ["assign", "t.parquet", "--prototypes", "t.parquet"],
            1,
            "'t.parquet' is damaged, or no file of pauc-hub.",
        ),
        (["assign", "t.parquet", "--alpha", "2"], 2, "--alpha 2.0 is not between 0 and 1."),
    ],
)
def test_bad_calls_get_one_line(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("empty.parquet", 0)
    before = sorted(Path().iterdir())
    out, err = printed(capsys, *words, "--quiet", status=status)
    assert out == ""
    assert err.startswith(f"error: {said}")
    assert len(err.splitlines()) == 1
    assert sorted(Path().iterdir()) == before


def test_another_origin_is_refused_with_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "cluster", "t.parquet", "-k", "4", "--quiet")
    write("other.parquet", 8, replace(PROVENANCE, space="projection"))
    _, err = printed(
        capsys, "assign", "other.parquet", "--prototypes", "t.prototypes.safetensors", status=1
    )
    assert "'other.parquet' was made by net (weights abababababab…, projection space)" in err
    assert "and 't.prototypes.safetensors' by net (weights abababababab…, backbone space)" in err
    assert "`pauc embed IMAGES --like TABLE`" in err


def test_search_says_the_prototype_of_what_it_finds(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "cluster", "t.parquet", "-k", "4", "--quiet")
    Path("names.csv").write_text("prototype,name\n0,cats\n")
    printed(capsys, "cluster", "t.prototypes.safetensors", "--names", "names.csv", "--quiet")
    columns = pq.read_table("t.assignments.parquet").to_pydict()
    of = dict(zip(columns["path"], columns["prototype_4"], strict=True))
    cat = next(path for path, prototype in of.items() if prototype == 0)
    words = [
        "search",
        cat,
        "--in",
        "t.parquet",
        "-k",
        "12",
        "--prototypes",
        "t.prototypes.safetensors",
    ]
    told = json.loads(printed(capsys, *words, "--json")[0])["queries"][0]["neighbors"]
    assert [each["prototype"] for each in told] == [of[each["path"]] for each in told]
    assert [each["name"] for each in told[:9]] == ["cats"] * 9
    assert told[-1]["name"] is None
    lines = printed(capsys, *words)[0].splitlines()
    assert lines[1].endswith(f"{told[0]['path']}  [0 cats]")
    assert lines[-1].endswith(f"{told[-1]['path']}  [{told[-1]['prototype']}]")
    write("other.parquet", 8, replace(PROVENANCE, weights_sha256="cd" * 32))
    words[3] = "other.parquet"
    assert "differ in weights" in printed(capsys, *words, "-k", "2", status=1)[1]
