"""Messages of the library name parameters; the command line shows them as options of the command
that was called.
"""

import pytest

from pauc_hub.cli import embed, search, train
from pauc_hub.cli.flags import flags_of, with_flags
from pauc_hub.training.config import Config


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("lr=100 is too high", "--lr 100 is too high"),
        (
            "start anew with lr=0.02, or a longer warm-up",
            "start anew with --lr 0.02, or a longer warm-up",
        ),
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
    assert with_flags(message, flags_of(train.train)) == typed


def test_a_command_without_settings_leaves_them_alone() -> None:
    message = "k=6 is too many; batch_size=0, weight_align=0.1, tau=0.1"
    flags = {"k": "-k", "batch_size": "--batch-size"}
    assert (
        with_flags(message, flags) == "-k 6 is too many; --batch-size 0, weight_align=0.1, tau=0.1"
    )


def test_flags_are_those_of_the_command_the_long_one_of_two() -> None:
    assert flags_of(search.search)["k"] == "-k"
    assert flags_of(embed.embed)["output"] == "--output"
    assert "images" not in flags_of(train.train)
    assert flags_of(train.train)["batch_size"] == "--batch-size"
    options = [
        "objective",
        "architecture",
        "weights_from",
        "freeze",
        "size",
        "epochs",
        "batch_size",
        "lr",
        "clusters",
    ]
    options += ["precision", "seed", "labelled"]
    assert [name for name in flags_of(train.train) if hasattr(Config, name)] == options
