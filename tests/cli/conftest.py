"""Shared by the tests of commands: the program as a shell calls it, without a Python of its own."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pauc_hub import cli


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Calls `pauc` with words, and gives its exit code; it heeds signals in its own way, and they
    are put back.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def call(*words: str) -> int:
        for number in numbers:
            # as Python has them at its start
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )
        monkeypatch.setattr(sys, "argv", ["pauc", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def signalled() -> Callable[[int, int, Callable[..., Any]], Callable[..., Any]]:
    """Wraps a function: its n-th call begins with a signal to this process."""

    def wrap(number: int, nth: int, function: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth:
                os.kill(os.getpid(), number)
            return function(*arguments, **named)

        return call

    return wrap
