"""Temperatures into a file of AMVUR's weights, measured on the held-out store `validation`."""

from __future__ import annotations

from pathlib import Path

from hand_mesh_ros.evaluation.amvur_answers import calibrate
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.perception.amvur_network import open_amvur
from hand_mesh_ros.training.instant_sources import folder_of
from hand_mesh_ros.training.instants import InstantStore


def calibrate_file(path: Path, store: str = "validation") -> str:
    """Measure, write back, and return the calibration's id. All else in the file stays.

    Raises AssetError for another file than AMVUR's weights, StoreError without the store.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    network = open_amvur(path, load_hand_model())
    calibrate(network, InstantStore(folder_of(store)))
    with safe_open(path, framework="pt") as file:
        words = file.metadata() or {}
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.weights().items()
    }
    found = network.calibration.id
    save_file(weights, path, metadata=words | {"calibration": found, "calibrated_on": store})
    return found
