"""How long an answer of the Hub is waited for, and a word to whoever waits while it is asked
again.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants, get_session

from pauc_hub.errors import Note

# huggingface_hub itself waits for ever, unless a call is given a limit of its own.
# A large commit may take the Hub most of a minute.
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0


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
        elif text.startswith("Rate limited. Waiting "):
            seconds = text.removeprefix("Rate limited. Waiting ").partition("s")[0]
            self._say(
                f"{constants.ENDPOINT} was asked too often; waiting for {float(seconds):.0f} "
                "seconds."
            )
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
