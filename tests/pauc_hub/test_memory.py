"""Memory: the machine's, and the least of all limits that control groups set, of either version."""

from pathlib import Path

import pytest

from pauc_hub import memory

GIB = 2**30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up /proc with 40 GiB available, and /sys/fs/cgroup, on a machine of 64 GiB."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_physical", lambda: 64 * GIB)
    written(
        tmp_path / "proc" / "meminfo",
        f"MemTotal: {64 << 20} kB\nMemAvailable: {40 << 20} kB\nHugePages_Total: 0\n",
    )
    return tmp_path


def written(path: Path, text: str | int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_without_limits_it_is_the_machines(system: Path) -> None:
    written(system / "proc" / "self" / "cgroup", "0::/")
    written(system / "cgroup" / "memory.max", "max")
    written(system / "cgroup" / "memory.current", 30 * GIB)
    assert (memory.total_memory(), memory.free_memory()) == (64 * GIB, 40 * GIB)


def test_the_least_of_all_groups_above_binds(system: Path) -> None:
    written(system / "proc" / "self" / "cgroup", "0::/slurm/job_7/step_0")
    for group, most, used in (
        ("slurm", 50, 1),
        ("slurm/job_7", 8, 3),
        ("slurm/job_7/step_0", 9, 2),
    ):
        written(system / "cgroup" / group / "memory.max", most * GIB)
        written(system / "cgroup" / group / "memory.current", used * GIB)
    assert (memory.total_memory(), memory.free_memory()) == (8 * GIB, 5 * GIB)


def test_pages_of_files_count_as_free(system: Path) -> None:
    written(system / "proc" / "self" / "cgroup", "0::/job")
    written(system / "cgroup" / "job" / "memory.max", 8 * GIB)
    written(system / "cgroup" / "job" / "memory.current", 7 * GIB)
    written(
        system / "cgroup" / "job" / "memory.stat",
        f"anon {2 * GIB}\nfile {5 * GIB}\ninactive_file {4 * GIB}\n",
    )
    assert memory.free_memory() == 5 * GIB


def test_version_1_in_a_container_that_knows_its_group_by_the_hosts_path_alone(
    system: Path,
) -> None:
    written(
        system / "proc" / "self" / "cgroup",
        "5:cpu,cpuacct:/docker/ab:c\n4:memory:/docker/ab:c\n0::/docker/ab:c",
    )
    written(system / "cgroup" / "memory" / "memory.limit_in_bytes", 6 * GIB)
    written(system / "cgroup" / "memory" / "memory.usage_in_bytes", 2 * GIB)
    written(
        system / "cgroup" / "memory" / "memory.stat",
        f"inactive_file 7\ntotal_inactive_file {GIB}",
    )
    assert (memory.total_memory(), memory.free_memory()) == (6 * GIB, 5 * GIB)


def test_a_group_beyond_its_limit_has_nothing_free(system: Path) -> None:
    written(system / "proc" / "self" / "cgroup", "0::/")
    written(system / "cgroup" / "memory.max", GIB)
    written(system / "cgroup" / "memory.current", 2 * GIB)
    assert memory.free_memory() == 0


def test_a_system_that_tells_nothing_is_guessed_to_be_half_used(system: Path) -> None:
    (system / "proc" / "meminfo").unlink()
    assert (memory.total_memory(), memory.free_memory()) == (64 * GIB, 32 * GIB)


def test_here_less_is_free_than_there_is() -> None:
    assert 2**26 < memory.free_memory() < memory.total_memory() < 2**50
