"""Making the free hand again from anny gives the file that ships (skips where anny is absent)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.hand.build import (
    build_free_hand,
    cut_and_cap,
    write_hand_model,
    zero_pose,
)
from hand_mesh_ros.hand.build_source import sample_source
from hand_mesh_ros.hand.model import FREE_HAND, load_hand_model


def test_writing_is_reproducible(tmp_path: Path) -> None:
    """Reading and writing the shipped file gives its own bytes."""
    write_hand_model(load_hand_model(), tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == FREE_HAND.read_bytes()


def test_rebuilding_gives_the_shipped_hand(tmp_path: Path) -> None:
    pytest.importorskip("anny", reason="anny makes the free hand; pip install anny")
    built = build_free_hand(tmp_path / "hand.npz")
    shipped = load_hand_model()
    assert built.model_id == shipped.model_id
    for name in ("faces", "uv_faces", "tips", "parents"):
        np.testing.assert_array_equal(getattr(built, name), getattr(shipped, name))
    for name in ("v_template", "shapedirs", "lbs_weights", "J_regressor", "albedo", "uv"):
        # Bytes are equal on one machine; across BLAS builds only round-off may differ.
        np.testing.assert_allclose(getattr(built, name), getattr(shipped, name), atol=2e-6)


def test_regressor_and_components_describe_hands_not_used_to_build_them() -> None:
    """Other adults: joints within 1 mm of where they were placed, surface within 1 mm (rms)."""
    pytest.importorskip("anny", reason="anny makes the free hand; pip install anny")
    source = sample_source(40, seed=1)
    hands, _ = zero_pose(source)
    vertices = cut_and_cap(hands, source).vertices
    model = load_hand_model()
    found = np.einsum("jv,nvd->njd", model.J_regressor, vertices)
    error = np.linalg.norm(found - hands.joints, axis=-1)
    assert np.sqrt((error**2).mean(0)).max() < 1e-3

    offsets = (vertices - model.v_template).reshape(len(vertices), -1)
    dirs = model.shapedirs.reshape(-1, 10)
    betas = np.linalg.lstsq(dirs, offsets.T, rcond=None)[0]
    residual = np.linalg.norm((offsets - betas.T @ dirs.T).reshape(len(vertices), -1, 3), axis=-1)
    assert np.sqrt((residual**2).mean()) < 1e-3
    assert 0.7 < betas.std() < 1.3
