"""Something that is wrong with a run, as the checks say it."""

from dataclasses import dataclass

RECENT = 3  # epochs that a mean is taken over: one alone may be an outlier


@dataclass(frozen=True)
class Finding:
    """One verdict, with what it rests on."""

    name: str
    """One word."""
    said: str
    """What it means."""
    evidence: str
    """The numbers, and when."""
    panel: str
    """Of the curves, which shows it."""
    change: str
    """Which setting, to what."""
