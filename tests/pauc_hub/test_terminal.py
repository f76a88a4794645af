"""What a terminal would obey is shown."""

import pytest

from pauc_hub.terminal import escaped, on_one_line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat.jpg", "cat.jpg"),
        ("Ä 日本 👩‍🔬.jpg", "Ä 日本 👩‍🔬.jpg"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31mred\x07\x7f\x9b", "\\x1b[31mred\\x07\\x7f\\x9b"),
        ("gpj.\u202ecat", "gpj.\\u202ecat"),
    ],
)
def test_control_characters_are_escaped(name: str, shown: str) -> None:
    assert escaped(name) == shown


def test_a_message_is_one_line_in_which_names_keep_their_newlines() -> None:
    message = "'a\nb  c' isn't there:\n  the table's\n\x1b 'x'"
    assert on_one_line(message) == "'a\\nb  c' isn't there: the table's \\x1b 'x'"
