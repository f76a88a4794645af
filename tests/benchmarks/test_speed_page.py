"""docs/speed.md says what the results say."""

import speed_page


def test_the_page_is_that_of_the_results() -> None:
    assert speed_page.PAGE.read_text(encoding="utf-8") == speed_page.page(), "run benchmarks/speed_page.py"
