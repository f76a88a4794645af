"""How long an answer of the Hub is waited for, and a word to whoever waits while it is asked
again.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants, get_session

from pauc_hub.errors import Note

# huggingface_hub itself waits for ever, unless a call is given a limit of its own.
# A large commit may take the Hub most of a minute.
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
# as huggingface_hub words it; another wording tells no number
WAIT = re.compile(r"Waiting (\d+(?:\.\d+)?)s")


@contextmanager
def patient() -> Iterator[None]:
    """Within, no question waits for ever, and instead of huggingface_hub's own warnings there is
    one Note.

    It repeats most questions for 23 seconds, or as long as a server asks it to.
    """
    client = get_session()
    timeout = client.timeout
    if timeout == httpx2.Timeout(None):
        client.timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    logger = logging.getLogger("huggingface_hub")
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [Retries()], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        client.timeout = timeout


class Retries(logging.Handler):
    """Reads huggingface_hub's warnings; says once that something is tried again, and each time that
    it has to wait.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._reason = "no answer"
        self._said = False

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if " thrown while requesting" in text:
            self._reason = text.partition(" thrown while requesting")[0].strip("'")
        elif text.startswith("Rate limited"):
            wait = WAIT.search(text)
            how_long = f"{float(wait[1]):.0f} seconds" if wait else "as long as it asks"
            self._say(f"{constants.ENDPOINT} was asked too often; waiting for {how_long}.")
        elif "Retrying in " in text and not self._said:
            self._say(
                f"{constants.ENDPOINT} has trouble ({self._reason}); trying again, for half a "
                "minute at most."
            )
        elif "Trying to resume download" in text and not self._said:
            self._say(
                f"the connection to {constants.ENDPOINT} broke off; going on with the download."
            )

    def _say(self, text: str) -> None:
        self._said = True
        warnings.warn(text, Note, stacklevel=2)
