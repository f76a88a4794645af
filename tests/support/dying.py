"""A process that kills itself where it is told to: in an activity, before a touch of a file or at
the return.
"""

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# what pathlib and shutil call
TOUCHES = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")


class Death(NamedTuple):
    """Where to die: before the so-manieth touch within the n-th entry of an activity.

    Attributes:
        touch: from 1 on; 0 is at the entry, and a number beyond the touches there are at the
            return.
    """

    activity: str
    entry: int = 1
    touch: int = 0


class Activities:
    """What a process does; from the order on, it dies there."""

    def __init__(self, diary: Path) -> None:
        """Watch all touches of files by this process.

        Args:
            diary: gets a line for each activity that is over: its name, and its touches.
        """
        self._diary, self._death = diary, Death("")
        self._entries: Counter[str] = Counter()
        # names, and the touches so far, of what is going on; the innermost last
        self._going_on: list[tuple[str, Counter[str]]] = []
        for name in TOUCHES:
            setattr(os, name, self._counted(getattr(os, name)))

    def order(self, words: str) -> None:
        """Take a death, as JSON; null is none."""
        if told := json.loads(words):
            self._death = Death(*told)

    def note(
        self,
        name: str,
        place: Any,
        function: str,
        written: Callable[..., str | os.PathLike[str]] | None = None,
    ) -> None:
        """Call this an activity.

        Args:
            place: module or class that holds the function.
            written: from the function's arguments, the file that it writes; a death at the return
                leaves half of it.
        """
        inner = getattr(place, function)

        def call(*arguments: Any, **named: Any) -> Any:
            self._entries[name] += 1
            touches: Counter[str] = Counter()
            self._die_at(name, touches.total())
            path = Path(written(*arguments)) if written else None
            size = path.stat().st_size if path and path.exists() else 0
            self._going_on.append((name, touches))
            result = inner(*arguments, **named)
            self._going_on.pop()
            if self._is_here(name) and self._death.touch > touches.total():
                if path:
                    os.truncate(path, (size + path.stat().st_size) // 2)
                _die()
            with self._diary.open("a") as diary:
                diary.write(f"{name} {touches.total()}\n")
            return result

        setattr(place, function, call)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if function is os.fsync:
            # a killed process loses nothing that it had written, synced or not; a power cut is
            # another matter
            function = _nothing

        def call(*arguments: Any, **named: Any) -> Any:
            for name, touches in self._going_on:
                touches[name] += 1
                self._die_at(name, touches.total())
            return function(*arguments, **named)

        return call

    def _is_here(self, name: str) -> bool:
        return (name, self._entries[name]) == (self._death.activity, self._death.entry)

    def _die_at(self, name: str, touch: int) -> None:
        if self._is_here(name) and self._death.touch == touch:
            _die()


def _nothing(_: int) -> None: ...


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def read_diary(diary: Path) -> dict[str, list[int]]:
    """Of each activity that was over, the touches of every entry."""
    found: dict[str, list[int]] = {}
    for line in diary.read_text().splitlines():
        name, touches = line.split()
        found.setdefault(name, []).append(int(touches))
    return found


def drawn_deaths(
    draw: random.Random,
    found: Mapping[str, Sequence[int]],
    counts: Mapping[str, int],
    entries: int = 2,
) -> list[Death]:
    """So many in each activity, in its first few entries, at different places among those there
    are.

    Args:
        found: what read_diary() tells of a process that nothing disturbed.
    """
    deaths = []
    for activity, count in counts.items():
        first = enumerate(found[activity][:entries], 1)
        places = [
            Death(activity, entry, touch)
            for entry, touches in first
            for touch in range(touches + 2)
        ]
        deaths += draw.sample(places, count)
    return deaths
