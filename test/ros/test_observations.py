"""HandObservations there and back: what an edge node sends is what the pipeline gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.serialization import deserialize_message, serialize_message

from hand_mesh_ros.msg import HandObservations
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.observe import ObserveSettings
from hand_mesh_ros.ros import builders, readers
from hand_mesh_ros.ros.readers import BadObservations
from hand_mesh_ros.types import Camera, View

CAMERA = Camera("front", 640, 480, np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]))
TOPIC = "/edge/observations/front"


def view(rng: np.random.Generator, depth: bool = False) -> View:
    uv = rng.uniform([100, 100], [300, 300], (21, 2))
    return View(
        index=3,
        camera=CAMERA,
        uv=uv,
        sigma=rng.uniform(1, 5, 21),
        world=rng.normal(0, 0.05, (21, 3)),
        presence=float(rng.uniform(0.5, 1)),
        right=float(rng.uniform(0, 1)),
        roi=rois_from_landmarks(uv)[0],
        depth=np.where(np.arange(21) % 3, rng.uniform(0.4, 0.6, 21), np.nan) if depth else None,
        depth_sigma=np.where(np.arange(21) % 3, 0.004, np.nan) if depth else None,
    )


def message(*views: View) -> Any:
    """As it arrives."""
    seen = [(v, 7 + i) for i, v in enumerate(views)]
    made = builders.observations("front", (640, 480), seen, "lens", 10**18 + 1)
    return deserialize_message(serialize_message(made), HandObservations)


def same(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("depths", [(), (False,), (True,), (True, True, True), (False, True)])
def test_views_there_and_back(rng: np.random.Generator, depths: tuple[bool, ...]) -> None:
    sent = [view(rng, depth) for depth in depths]
    got = readers.views(message(*sent), CAMERA, TOPIC)
    assert len(got) == len(sent)
    for a, b in zip(sent, got, strict=True):
        assert b.camera is CAMERA and b.frame is None
        for name in ("uv", "sigma", "world", "presence", "right"):
            same(getattr(a, name), getattr(b, name))
        np.testing.assert_allclose(a.roi, b.roi, rtol=1e-5, atol=1e-4)
        if not any(depths):
            assert b.depth is None and b.depth_sigma is None
        else:
            same(np.full(21, np.nan) if a.depth is None else a.depth, b.depth)
            same(np.full(21, np.nan) if a.depth is None else a.depth_sigma, b.depth_sigma)


def test_a_hand_is_less_than_four_kilobytes(rng: np.random.Generator) -> None:
    sizes = [len(serialize_message(message(*[view(rng, True)] * n))) for n in range(4)]
    assert sizes[0] < 200
    assert max(np.diff(sizes)) < 1000
    assert len(serialize_message(message(view(rng)))) < 800


def test_unknown_sigma_and_side(rng: np.random.Generator) -> None:
    known = view(rng)
    sigma = known.sigma.copy()
    sigma[4] = np.nan
    (got,) = readers.views(message(replace(known, sigma=sigma, right=np.nan)), CAMERA, TOPIC)
    assert got.right == 0.5
    assert got.sigma[4] == pytest.approx(ObserveSettings().noise * got.roi[2])
    same(np.delete(got.sigma, 4), np.delete(sigma, 4))


def _cut(name: str) -> Callable[[Any], None]:
    return lambda m: setattr(m, name, getattr(m, name)[:-1])


def _set(name: str, value: Any) -> Callable[[Any], None]:
    return lambda m: setattr(m, name, value)


def _put(name: str, value: float) -> Callable[[Any], None]:
    def put(m: Any) -> None:
        getattr(m, name)[5 if len(getattr(m, name)) > 5 else 0] = value

    return put


ARRAYS = sorted(readers._SHAPES)
SPOILERS = [
    *((name, f"{name} has", _cut(name)) for name in ARRAYS),
    ("track_id", "presence has 2 values, expected 1 for 1 hand", _cut("track_id")),
    *((name, f"{name} must be finite", _put(name, np.inf)) for name in ARRAYS),
    ("landmarks", "landmarks must be finite", _put("landmarks", np.nan)),
    ("relative_landmarks", "relative_landmarks must be", _put("relative_landmarks", np.nan)),
    ("presence", "presence must be finite", _put("presence", np.nan)),
    ("presence", r"presence must lie in \[0, 1\]", _put("presence", 1.5)),
    ("right_probability", "right_probability must lie", _put("right_probability", -0.5)),
    ("landmark_stddev", "landmark_stddev must be positive", _put("landmark_stddev", 0.0)),
    ("landmark_depth", "landmark_depth must be positive", _put("landmark_depth", -0.5)),
    ("relative_landmarks", "relative_landmarks has 0", _set("relative_landmarks", [])),
    ("landmark_depth", "landmark_depth has 0", _set("landmark_depth", [])),
    ("width", "width, height: image is 320x480", _set("width", 320)),
    ("height", "width, height: image is 640x48 ", _set("height", 48)),
]


@pytest.mark.parametrize(
    ("field", "complaint", "spoil"), SPOILERS, ids=[f"{f}-{c[-12:]}" for f, c, _ in SPOILERS]
)
def test_what_is_wrong_is_named(
    rng: np.random.Generator, field: str, complaint: str, spoil: Callable[[Any], None]
) -> None:
    bad = message(view(rng, True), view(rng, True))
    readers.views(bad, CAMERA, TOPIC)
    spoil(bad)
    with pytest.raises(BadObservations, match=complaint) as caught:
        readers.views(bad, CAMERA, TOPIC)
    assert str(caught.value).startswith(f"{TOPIC}: ")
    assert field in str(caught.value) or field == "track_id"
