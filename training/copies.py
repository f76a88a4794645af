"""Whether a small set of images holds enough different ones, found out before a run begins."""

import hashlib

import numpy as np

from pauc_hub.errors import UsageError
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.config import Config
from pauc_hub.training.estep import told_distinct

# In larger sets the first E-step finds it out: a set without copies costs a look at one image in
# ten.
LOOKED_THROUGH = 2000


def refuse_copies(source: ImageSource, config: Config, *, begins: bool = True) -> None:
    """See to it that there are more distinct images than prototypes, where prototypes are needed.

    Args:
        begins: whether the run does; one that goes on is not looked at.

    Raises:
        UsageError: there are not.
    """
    assert config.clusters is not None, "resolve() fills it in"
    if not begins or config.objective == "infonce" or len(source) > LOOKED_THROUGH:
        return
    most = config.clusters[-1]
    readable, distinct = 0, set[bytes]()
    for index in range(len(source)):
        picture = source.read(index)
        if picture is None:
            continue
        readable += 1
        distinct.add(hashlib.sha256(np.asarray(picture).tobytes()).digest())
        if len(distinct) > most:
            return
    # else the first E-step says how many cannot be read
    if readable > most:
        raise UsageError(" ".join(told_distinct(len(distinct), len(source), most)))
