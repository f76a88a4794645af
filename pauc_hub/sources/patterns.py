"""Places given as patterns: `{000..127}` and `{a,b}` are written out, `*`, `?`, `[…]` and `**`
match what is there.
"""

import re
from collections.abc import Iterator

BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
SPECIAL = re.compile(r"[*?\[]|" + BRACES.pattern)


def is_pattern(place: str) -> bool:
    return SPECIAL.search(place) is not None


def matches_files(piece: str) -> bool:
    """Whether it must be looked up what a pattern matches, once its braces are written out."""
    return re.search(r"[*?\[]", piece) is not None


def above(pattern: str) -> str:
    """The folder, with its `/`, under which all lies that a pattern can match."""
    found = SPECIAL.search(pattern)
    head = pattern[: found.start()] if found else pattern
    return head[: head.rfind("/") + 1]


def write_out(pattern: str) -> Iterator[str]:
    """`a{1..3}` to `a1`, `a2`, `a3`; as many digits as the longer end where one begins with 0."""
    found = BRACES.search(pattern)
    if not found:
        yield pattern
        return
    low, high, words = found.groups()
    for choice in words.split(",") if words is not None else _numbers(low, high):
        yield from write_out(pattern[: found.start()] + choice + pattern[found.end() :])


def _numbers(low: str, high: str) -> Iterator[str]:
    width = max(len(low), len(high)) if low.startswith("0") or high.startswith("0") else 1
    return (f"{number:0{width}d}" for number in range(int(low), int(high) + 1))
