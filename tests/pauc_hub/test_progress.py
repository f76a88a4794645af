"""Progress: a bar on a terminal, a line now and then in a log, nothing where quiet; always on
stderr.
"""

import io

import pytest

from pauc_hub import progress
from pauc_hub.progress import progress_bar

HALF_A_MINUTE = progress.SECONDS_BETWEEN_LINES  # before the suite silences it


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> io.StringIO:
    """stderr that is no terminal, where a line is due after so many seconds."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    return stream


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def test_a_log_gets_whole_lines_with_count_rate_and_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = log(monkeypatch)
    with progress_bar(200, "embedding") as bar:
        bar.advance(50)
        bar.note(loss=3.25, stage="warm-up")
        bar.advance(50)
    *_, first, second = shown.getvalue().splitlines()
    assert "\r" not in shown.getvalue()
    assert first.startswith("embedding: 50/200, ")
    assert " images/s, " in first
    assert second.startswith("embedding: 100/200, ")
    assert second.endswith(" left, loss=3.25, stage=warm-up")
    assert shown.getvalue().endswith("\n")


def test_a_log_gets_nothing_of_work_that_is_soon_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = log(monkeypatch, seconds=30.0)
    with progress_bar(10, "embedding") as bar:
        for _ in range(10):
            bar.advance(1)
    assert shown.getvalue() == ""


def test_a_log_gets_a_line_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, now = log(monkeypatch, HALF_A_MINUTE), [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with progress_bar(3000, "embedding") as bar:
        for _ in range(100):
            now[0] += 1
            bar.advance(1)
    counts = [line.partition("/")[0] for line in shown.getvalue().splitlines()]
    assert counts == ["embedding: 30", "embedding: 60", "embedding: 90"]


def test_without_a_total_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = log(monkeypatch)
    with progress_bar(None, "looking", unit="files") as bar:
        bar.advance(7)
    assert shown.getvalue().splitlines()[-1].startswith("looking: 7/?, ")
    assert " files/s, " in shown.getvalue()


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with progress_bar(10, "embedding") as bar:
        bar.advance(5)
    assert "embedding:   0%|" in shown.getvalue()
    assert shown.getvalue().endswith("\r")
    assert shown.getvalue().split("\r")[-2].strip() == ""


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with progress_bar(10, "embedding", quiet=True) as bar:
        bar.advance(5)
        bar.note(loss=1.0)
    assert shown.getvalue() == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_failure_passes_through_and_closes_the_bar(
    monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    shown = terminal(monkeypatch)
    with pytest.raises(LookupError), progress_bar(10, "embedding", quiet=quiet):
        raise LookupError
    assert shown.getvalue() == "" or shown.getvalue().endswith("\r")


def test_nothing_goes_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = log(monkeypatch)
    with progress_bar(10, "embedding") as bar:
        bar.advance(5)
    assert shown.getvalue()
    assert capsys.readouterr().out == ""
