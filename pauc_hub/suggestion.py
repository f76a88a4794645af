"""The nearest name to one that is unknown, as a question for the end of a message."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """` Did you mean 'resnet50'?`, with a space before it; empty where no name is near."""
    close = get_close_matches(name, names, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
