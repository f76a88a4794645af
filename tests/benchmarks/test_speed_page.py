"""docs/speed.md says what the results say."""

from pathlib import Path

import pytest
import speed_page
import speed_sections


def test_the_page_is_that_of_the_results() -> None:
    assert speed_page.PAGE.read_text(encoding="utf-8") == speed_page.page(), (
        "run benchmarks/speed_page.py"
    )


def test_a_section_has_a_part_for_each_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_sections, "RESULTS", tmp_path)
    for name in ("b", "a", "a.unfinished"):
        hardware = f'{{"hardware": {{"name": "{name} Processor", "cores": 2, "memory_gb": 8}}}}'
        (tmp_path / f"some-{name}.json").write_text(hardware)
    told = speed_sections.section("Title", "some", lambda found: found["hardware"]["name"][0])
    assert told == "\n## Title\n\n### a, 2 cores, 8 GB\na\n### b, 2 cores, 8 GB\nb"
    assert speed_sections.section("Title", "other", lambda _: "told") == ""
