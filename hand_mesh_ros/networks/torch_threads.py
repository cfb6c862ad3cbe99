"""How many threads torch computes with, for as long as a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_torch_thread(wanted: bool = True) -> Iterator[None]:
    """Torch computes in the calling thread alone, if it is ``wanted``.

    The products of a small network are over before a second thread has begun, and threads that
    wait for each other after every one of them wait busily: two took three times the processor
    time of one, and longer where others wanted the cores as well.
    """
    import torch

    before = torch.get_num_threads()
    if not wanted or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
