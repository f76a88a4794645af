"""How tests start two processes on this machine; the port is one that is free."""

import sys

TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run"),
    *("--standalone", "--nproc-per-node", "2"),
]
