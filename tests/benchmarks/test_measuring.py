"""Commands are watched with all their processes, and what was measured once is not measured
again.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import measuring
import pytest
from measuring import Journal, Watched, medians, memory_of, processes_of, rounded, slug, watch

MIB = 2**20
FORKS = f"""import os, sys
held = bytearray(os.urandom(1)) * ({200 * MIB})
child = os.fork()
if child:
    print("ready", flush=True)
sys.stdin.read()
"""


def test_memory_that_processes_share_counts_once() -> None:
    command = [sys.executable, "-c", FORKS]
    with subprocess.Popen(
        command, stdin=-1, stdout=-1, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert len(processes_of(process.pid)) == 2
        assert 200 * MIB < memory_of(process.pid) < 300 * MIB


def test_a_process_is_found_by_its_session_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "PROC", tmp_path)
    for pid, stat in {"12": "12 (a) 3 4 5) S 1 9 7 0", "13": "13 (b) S 1 7 8 0"}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "stat").write_text(stat)
    assert processes_of(7) == [12]


def test_a_command_is_watched_to_its_end() -> None:
    took = watch(
        sys.executable, "-c", "import time; time.sleep(0.3); sum(range(10**6)); print('done')"
    )
    assert took.stdout == "done\n"
    assert took.seconds >= 0.3
    assert took.cpu_seconds > 0
    assert took.peak_mib > 0


def test_figures_by_hand() -> None:
    found = Watched(seconds=4.0, cpu_seconds=6.0, peak_mib=300.0, stdout="").figures(10)
    assert found == {"seconds": 4.0, "images_per_second": 2.5, "peak_mib": 300.0, "cores_busy": 1.5}


def test_a_command_that_fails_ends_the_measurement_and_says_why() -> None:
    with pytest.raises(SystemExit, match=r"(?s)ended with 3:\nno luck"):
        watch(sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)")


def test_a_measurement_is_made_once_also_across_sittings(tmp_path: Path) -> None:
    path, about = tmp_path / "results" / "some.json", {"count": 3, "pair": (1, 2)}
    first = Journal(path, about)
    assert first.once("a", lambda: {"seconds": 1.5}) == {"seconds": 1.5}
    assert first.sittings == 1
    again = Journal(path, about)
    assert again.once("a", pytest.fail) == {"seconds": 1.5}
    assert again.once("b", lambda: 2) == 2
    assert again.sittings == 2
    again.remove()
    assert Journal(path, about).once("a", lambda: 7) == 7


def test_measurements_of_something_else_are_dropped(tmp_path: Path) -> None:
    Journal(tmp_path / "some.json", {"commit": "old"}).once("a", lambda: 1)
    renewed = Journal(tmp_path / "some.json", {"commit": "new"})
    assert renewed.once("a", lambda: 2) == 2
    assert renewed.sittings == 1


@pytest.mark.parametrize(
    ("value", "short"),
    [
        (0.0123456, 0.01235),
        (12.34567, 12.35),
        (123456.7, 123457),
        (-2345.6, -2346),
        (7, 7),
        ("0.123456", "0.123456"),
        ({"a": [1.00001, (2.5,)]}, {"a": [1.0, [2.5]]}),
    ],
)
def test_rounded(value: Any, short: Any) -> None:
    assert rounded(value) == short


def test_medians_by_hand() -> None:
    assert medians([{"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 7.0}, {"a": 2.0, "b": 8.0}]) == {
        "a": 2.0,
        "b": 8.0,
    }


def test_slug() -> None:
    assert slug("AMD EPYC(TM) 9V74 80-Core", 2) == "amd-epyc-tm-9v74-80-core-2"
