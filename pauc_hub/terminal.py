"""Text for people: names of files may hold characters that a terminal would obey rather than
show.
"""

import re

# C0, DEL and C1; separators of lines and paragraphs; marks that turn the direction of writing
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
QUOTED = re.compile(r"(?<!\w)'[^']*'(?!\w)")  # a name, and no apostrophe


def escaped(line: str) -> str:
    r"""One line of text, in which a newline is the two characters `\n`, and ESC is `\x1b`."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), line)


def on_one_line(message: str) -> str:
    """A message whose names stand in single quotes: they are escaped, and other line breaks become
    blanks.
    """
    quoted = QUOTED.sub(lambda found: escaped(found[0]), message)
    return escaped(re.sub(r"\s*[\r\n]\s*", " ", quoted.strip()))
