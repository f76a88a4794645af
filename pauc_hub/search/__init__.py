"""Which images of a table are most like a given one: exactly, by an index, and as a page to look at."""
