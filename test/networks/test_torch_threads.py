"""Torch's threads while a network runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hand_mesh_ros.networks.torch_threads import one_torch_thread


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_thread_for_as_long_as_it_lasts() -> None:
    with one_torch_thread():
        assert torch.get_num_threads() == 1
        with one_torch_thread():
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with one_torch_thread(wanted=False):
        assert torch.get_num_threads() == 3


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(KeyError), one_torch_thread():
        raise KeyError
    assert torch.get_num_threads() == 3
