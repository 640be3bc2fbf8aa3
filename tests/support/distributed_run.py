"""Train as train.py does, but in float64, so that runs on one and on several processes can be compared exactly."""

import os
import sys

import torch

import train as program
from data import CustomDatasetDataLoader
from options.train_options import TrainOptions
from util.errors import explained_errors
from util.runtime import processes

batches = CustomDatasetDataLoader.__iter__


def doubled(loader):
    """Yield the loader's batches in float64."""
    for batch in batches(loader):
        yield {key: value.double() if torch.is_tensor(value) else value for key, value in batch.items()}


def compute_in_float64():
    """Let this process compute in float64."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    CustomDatasetDataLoader.__iter__ = doubled


def main(words):
    """Train with these arguments of train.py."""
    compute_in_float64()
    with explained_errors(), processes.processes():
        program.train(TrainOptions(words).parse())


def fork(count, port, output, words):
    """Run `main` in `count` forked processes, as torchrun would start them; return their exit statuses.

    Importing torch takes seconds, forking a process that has imported it takes none.
    """
    children = []
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
                os.dup2(1, 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
                if count == 1:
                    for name in names:
                        del os.environ[name]
                main(words)
                status = 0
            except BaseException as error:
                print(repr(error), file=sys.stderr)
            finally:
                sys.stdout.flush()
                os._exit(status)
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
