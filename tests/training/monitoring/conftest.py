"""Runs that were never trained: lines as metrics.jsonl would have them."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from pauc_hub.training.config import Config
from pauc_hub.training.monitoring.history import History

# ln(queue + 1) = 8.318
CONFIG = Config(epochs=40, batch_size=256, queue=4095, clusters=(50, 100), warmup=0.1)
STEPS = 50  # an epoch

Made = Callable[..., History]


@pytest.fixture
def made() -> Made:
    """`made(infonce=[…], **other series, settings={…})`: an epoch a value; a series that is shorter
    began later.
    """

    def make(
        settings: dict[str, object] | None = None,
        failure: str = "",
        **series: Sequence[float | None],
    ) -> History:
        count = max((len(values) for values in series.values()), default=0)
        epochs = [
            {"epoch": i + 1, "step": 0}
            | {
                name: values[i - count]
                for name, values in series.items()
                if i - count >= -len(values)
            }
            for i in range(count)
        ]
        config = dataclasses.replace(CONFIG, **(settings or {}))  # type: ignore[arg-type]
        return History(config, STEPS, (), epochs, failure)

    return make
