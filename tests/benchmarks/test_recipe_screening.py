"""The rows of the screening can be trained, differ, and are refused by a name that is none."""

import sys

import pytest
import recipe_screening
from recipe_screening import COMMON, ROWS, config_of

IMAGES = 12_800


@pytest.mark.parametrize("row", ROWS)
def test_a_row_changes_what_it_names_and_nothing_else(row: str) -> None:
    config = config_of(row, 1, 2, IMAGES)
    wanted = COMMON | dict(ROWS[row].settings) | {"seed": 1, "epochs": 2}
    assert {name: getattr(config, name) for name in wanted} == wanted


def test_rows_differ_from_each_other() -> None:
    assert len({config_of(row, 0, 2, IMAGES) for row in ROWS}) == len(ROWS)


def test_an_unknown_row_is_refused_before_work_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "no.parquet", "-o", "work", "--rows", "base,sdg"])
    with pytest.raises(SystemExit):
        recipe_screening.main()
    assert "no row is named sdg; there are base, warmup_10" in capsys.readouterr().err
