"""Starting several processes on this machine, and ending with what started them."""

import logging
import os
import signal
import sys
import tempfile
import threading
import time

import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from vitpipe.errors import InputError


def launch(module: str, processes: int) -> None:
    """Runs `python -m module` in so many processes on this machine, as torchrun does, and waits for them.

    Together they have as many threads as one process would have, where torchrun would give one to each; the
    environment's OMP_NUM_THREADS, if set, is what each has. A process that fails says itself why; if it cannot,
    because a signal killed it, this one does.

    Raises:
        InputError: a signal killed one of them, or this one.
        KeyboardInterrupt: this one was interrupted. In all cases none of them is left running.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    logging.disable(logging.ERROR)  # torchrun's own account, of many lines
    with tempfile.TemporaryDirectory() as log:
        options = ["--standalone", f"--nproc-per-node={processes}", f"--log-dir={log}", "-m", module]
        try:
            torchrun.run(torchrun.parse_args(options))
        except SignalException as stop:
            if stop.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise InputError(f"stopped by {stop.sigval.name}: started again, it goes on from the last state") from None
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            if max(codes.values()) > 0:  # it has said why
                sys.exit(1)
            rank = max(codes, key=lambda rank: codes[rank] != -signal.SIGTERM)  # which is how the others were stopped
            name = signal.Signals(-codes[rank]).name
            print(file=sys.stderr)  # below what is left of the progress bar
            raise InputError(
                f"process {rank + 1} of {processes} was killed by {name} and the others were stopped (is there enough "
                "memory?): started again, they go on from the last state"
            ) from None


def launched() -> bool:
    """Whether torchrun started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def end_with_launcher() -> None:
    """Ends this process when its launcher ends: otherwise it would go on beside one that is started again."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
