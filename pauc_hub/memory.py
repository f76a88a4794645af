"""Memory that this process may have: the machine's, or less where a container or a batch system
sets a limit (cgroups).

A process that takes more than its limit is killed without a word, though the machine has room.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class Limit(NamedTuple):
    """Of a control group; bytes."""

    most: int
    used: int


def total_memory() -> int:
    """Bytes."""
    return min([_physical(), *(limit.most for limit in _limits())])


def free_memory() -> int:
    """Bytes that nobody uses."""
    return min([_available(), *(max(0, limit.most - limit.used) for limit in _limits())])


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _available() -> int:
    told = _numbers(PROC / "meminfo").get("MemAvailable:")
    # a guess where the system does not tell
    return told * 1024 if told is not None else _physical() // 2


def _limits() -> Iterator[Limit]:
    """Of all groups that hold this process: each binds."""
    with suppress(OSError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            hierarchy, controllers, path = line.split(":", 2)
            # version 2; cgroup_v1.html and cgroup-v2.html of the kernel's documentation
            if hierarchy == "0":
                yield from _limits_above(
                    CGROUPS, path, "memory.max", "memory.current", "inactive_file"
                )
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                yield from _limits_above(CGROUPS / "memory", path, *names)


def _limits_above(root: Path, path: str, most: str, used: str, cache: str) -> Iterator[Limit]:
    """From the group at `path` up to the root, which in a container is its own group though `path`
    is the host's.

    Args:
        cache: pages of files that count as used, and give way at once.
    """
    group = root / path.lstrip("/")
    for folder in [group, *group.parents][: len(group.parts) - len(root.parts) + 1]:
        with suppress(OSError, ValueError):  # `max` is no number, nor a limit
            held = int((folder / used).read_text()) - _numbers(folder / "memory.stat").get(cache, 0)
            yield Limit(int((folder / most).read_text()), held)


def _numbers(path: Path) -> dict[str, int]:
    """The first two words of each line; none where there is no such file."""
    with suppress(OSError):
        pairs = (line.split() for line in path.read_text().splitlines())
        return {
            words[0]: int(words[1]) for words in pairs if len(words) > 1 and words[1].isdecimal()
        }
    return {}
