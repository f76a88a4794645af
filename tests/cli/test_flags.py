"""Messages of the library name parameters; the command line shows them as options."""

import inspect

import pytest

from pauc_hub.cli import embed, train
from pauc_hub.cli.flags import OPTIONS, as_typed
from pauc_hub.training.config import Config


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("lr=100 is too high", "--lr 100 is too high"),
        ("start anew with lr=0.02, or a longer warm-up", "start anew with --lr 0.02, or a longer warm-up"),
        ("give batch_size=64.", "give --batch-size 64."),
        ("give clusters=250,500: fewer", "give --clusters 250,500: fewer"),
        ("(objective='infonce')", "(--objective infonce)"),
        ("labelled='my photos/a' is none", "--labelled 'my photos/a' is none"),
        ("start anew with overwrite=True.", "start anew with --overwrite."),
        ("weight_align=0.5 has no effect", "--set weight_align=0.5 has no effect"),
        ("such as --set dim=8", "such as --set dim=8"),
        ("ln(queue + 1) = 8.3, k = 200", "ln(queue + 1) = 8.3, k = 200"),
        ("RANK=3 and colour=red and lr=", "RANK=3 and colour=red and lr="),
    ],
)
def test_parameters_become_options(message: str, typed: str) -> None:
    assert as_typed(message) == typed


def test_the_options_are_those_that_commands_have() -> None:
    parameters = {name for command in (train.train, embed.embed) for name in inspect.signature(command).parameters}
    assert parameters >= OPTIONS
    assert {name for name in inspect.signature(train.train).parameters if hasattr(Config, name)} <= OPTIONS
