"""The hand model as a layer that neither waits for a device nor has branches on its numbers."""

from __future__ import annotations

import copy

from hand_mesh_ros.networks.checkpoint_mano import CheckpointMano


def fused_mano(mano: CheckpointMano) -> CheckpointMano:
    """A copy, with the kinematic tree in the host's memory.

    smplx goes along the tree bone by bone. A tree on the device is asked for every bone, which
    waits for all work on it; and a trace for export cannot follow it.
    """
    mano = copy.deepcopy(mano)
    parents = mano.parents.numpy(force=True)
    del mano.parents
    mano.parents = parents
    return mano
