"""A signal asks for a stop; a second Ctrl-C insists; and afterwards signals mean what they meant
before.
"""

import os
import signal
import threading

import pytest

from pauc_hub.training.interruption import SIGNALS, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_only_sets_the_request(number: signal.Signals) -> None:
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested


def test_a_second_ctrl_c_stops_at_once() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.requested


def test_sigterm_may_come_any_number_of_times() -> None:
    with StopRequest() as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested


@pytest.mark.parametrize("failing", [False, True])
def test_the_former_handlers_come_back(failing: bool) -> None:
    former = [signal.getsignal(number) for number in SIGNALS]
    try:
        with StopRequest():
            assert all(signal.getsignal(number) not in former for number in SIGNALS)
            if failing:
                raise LookupError
    except LookupError:
        assert failing
    assert [signal.getsignal(number) for number in SIGNALS] == former


def test_outside_the_main_thread_signals_stay_as_they_are() -> None:
    former = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append((stop.requested, [signal.getsignal(number) for number in SIGNALS]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, former)]
