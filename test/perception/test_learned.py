"""What networks are given: crops as pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hand_mesh_ros.perception.learned import CropBatch


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_pictures_are_crops_in_whole_numbers(count: int, channels_last: bool) -> None:
    """Rounded, and no more than white, however the crops lie in memory."""
    torch.manual_seed(0)
    crops = 256.5 * torch.rand(count, 3, 32, 32)
    if channels_last:
        crops = crops.contiguous(memory_format=torch.channels_last)
    batch = CropBatch(crops, np.arange(count), np.zeros((count, 3, 3)), np.ones(count))
    pictures = batch.pictures()
    assert pictures.dtype == np.uint8 and pictures.shape == (count, 32, 32, 3)
    wanted = crops.permute(0, 2, 3, 1).numpy().round().clip(0, 255)
    np.testing.assert_array_equal(pictures, wanted)


def test_places_of_views() -> None:
    group = np.array([5, 2, 5, 9, 2, 5])
    batch = CropBatch(torch.zeros(6, 3, 8, 8), group, np.zeros((6, 3, 3)), np.ones(6))
    hand, column = batch.places()
    assert hand.tolist() == [1, 0, 1, 2, 0, 1]
    assert column.tolist() == [0, 0, 1, 0, 1, 2]
