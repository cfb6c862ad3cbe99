"""Recordings as instants without truth: what is stored is where the cameras saw the hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.data.recordings import part_of
from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.geometry.crops import invert_affine, transform_points
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.evidence import CROP
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.training import instant_writer, recording_source
from hand_mesh_ros.training.crop_lens import bent, straightened
from hand_mesh_ros.training.instant_sources import InOrder, SourceEnd, open_instants
from hand_mesh_ros.training.instant_writer import ALL, StoreRequest, write_store
from hand_mesh_ros.training.instants import InstantStore, crop_poses
from hand_mesh_ros.training.pseudo_labels import PLACE_FIELDS
from hand_mesh_ros.training.recipes import Augmentation
from hand_mesh_ros.types import Camera, Frame, FrameSet, HandSet, TrackedHand, View

# a strong barrel and a strong pincushion, and hands well off the middle of the pictures
LENSES = ([-0.33, 0.05, -0.004, 0.004, 0.07], [0.2, -0.2, 0.003, 0.002, 0.1], [])
EYES = ([-0.5, 0.1, 0.0], [0.5, -0.2, 0.1], [0.1, 0.5, 0.0])
SETS = 8


def _camera(number: int) -> Camera:
    T = look_at(np.array(EYES[number]), np.array([0.0, 0.0, 0.7]), np.array([0.0, -1.0, 0.0]))
    K = np.array([[300.0 + 20 * number, 0, 330], [0, 305, 235], [0, 0, 1]])
    D = np.array(LENSES[number])
    return Camera(f"c{number}", 640, 480, K, "plumb_bob" if len(D) else "none", D, T)


CAMERAS = tuple(map(_camera, range(3)))


def _hand(number: int) -> np.ndarray:
    """21 points of no hand, 15 cm of them, in another place in every set."""
    rng = np.random.default_rng(number)
    return rng.uniform(-0.07, 0.07, (21, 3)) + [0.2, 0.15, 0.7] + rng.uniform(-0.03, 0.03, 3)


@dataclass
class _Recording:
    cameras: tuple[Camera, ...] = CAMERAS
    name: str = "stub"
    fps: float = 10.0

    def __len__(self) -> int:
        return SETS

    def __iter__(self) -> Iterator[FrameSet]:
        for number in range(SETS):
            rng = np.random.default_rng(number)
            image = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
            yield FrameSet(tuple(Frame(c, number * 10**8, image) for c in self.cameras))


class _Pipeline:
    """Finds one hand in every set, a left one in odd ones; in set 2 by one camera only."""

    def process(self, frames: FrameSet) -> HandSet:
        number = frames.stamp_ns // 10**8
        seen = tuple(
            View(i, f.camera, project(f.camera, _hand(number)), np.ones(21), np.zeros((21, 3)),
                 1.0, 0.5, np.zeros(4), f)
            for i, f in reversed(list(enumerate(frames.frames)))
        )  # fmt: skip
        side: Any = SimpleNamespace(side="left" if number % 2 else "right")
        hands = (TrackedHand(7, side),)
        observed = (seen[:1] if number == 2 else seen,)
        return HandSet(frames.stamp_ns, 0.0, (), hands, observed)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., InOrder]:
    monkeypatch.setattr(recording_source, "open_recording", lambda path: _Recording())
    monkeypatch.setattr(recording_source, "build_pipeline", lambda **_: (_Pipeline(), {}))
    recording_source._in_order.cache_clear()

    def made(views: int = 4, **options: Any) -> InOrder:
        instants = open_instants("recording", views, {"path": "stub", **options})
        assert isinstance(instants, InOrder)
        return instants

    return made


def test_each_hand_that_two_cameras_see_is_an_instant(stub: Callable[..., InOrder]) -> None:
    instants = stub()
    assert [instants(n)[0].frame for n in range(7)] == [0, 1, 3, 4, 5, 6, 7]
    assert [s.view for s in instants(6)] == [0, 1, 2]
    assert all(s.joints is None and s.uv is None and s.mano is None for s in instants(6))
    with pytest.raises(SourceEnd, match="stub has 7 instants, not 8"):
        instants(7)
    assert instants.progress == (8, 8)
    assert instants(1)[0].frame == 1  # goes back by beginning anew
    assert [s.view for s in stub(2)(0)] == [0, 1]  # cameras beyond the views are left out


def test_parts_of_a_recording_share_no_set(stub: Callable[..., InOrder]) -> None:
    first, second = ([n for n, _ in part_of(_Recording(), *p)] for p in ((0, 0.6), (0.6, 1)))
    assert first + second == list(range(SETS))
    instants = stub(begin=0.6, every=2)
    assert instants(0)[0].frame == 6
    with pytest.raises(SourceEnd, match="1 instants"):
        instants(1)
    for wrong in ({"begin": 0.5, "end": 0.5}, {"end": 1.5}, {"every": 0}, {"first": 3}):
        with pytest.raises(ValueError, match="part of a recording|every is 0|first"):
            stub(**wrong)
    with pytest.raises(ValueError, match="two are needed"):
        stub(1)
    with pytest.raises(ValueError, match="no hand was found that two cameras see"):
        stub(begin=0.25, end=0.375)(0)


def test_lenses_that_stores_do_not_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fish = Camera("fish", 640, 480, CAMERAS[0].K, "equidistant", np.zeros(4))
    odd = _Recording((fish, CAMERAS[1]))
    monkeypatch.setattr(recording_source, "open_recording", lambda path: odd)
    recording_source._in_order.cache_clear()
    with pytest.raises(ValueError, match="fish is equidistant"):
        open_instants("recording", 4, {"path": "odd"})


@pytest.fixture
def store(
    stub: Callable[..., InOrder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> InstantStore:
    """Of the stub recording, in parts of three; a hand of noise is one to the writer."""
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(instant_writer, "PART", 3)
    told: list[tuple[int, int]] = []
    request = StoreRequest("recording", {"path": "stub"}, ALL, 4, Augmentation())
    made = write_store(request, tmp_path, 2, lambda done, of, _: told.append((done, of)))
    assert len(made) == 7 and made.views == 4 and len(list(tmp_path.glob("part-*"))) == 3
    assert told[-1] == (8, 8) and sorted(told) == told
    return made


def test_a_store_of_it_has_crops_and_no_truth(store: InstantStore) -> None:
    fields = store.read(range(7), ["valid", "left", "joints", "uv", "rotations", "betas", "wrist",
                                   "visibility", "visible_share", "image", "coarse"])  # fmt: skip
    valid = fields["valid"]
    assert valid[:, :3].all() and not valid[:, 3].any()
    assert fields["left"].tolist() == [False, True, True, False, True, False, True]
    for name in ("joints", "uv", "rotations", "betas", "wrist", "visibility", "visible_share"):
        assert np.isnan(fields[name][valid]).all(), name
    assert fields["image"][valid].std() > 10 and np.abs(fields["coarse"][valid]).max() > 0


def test_what_the_cameras_saw_meets_in_the_stores_world(store: InstantStore) -> None:
    """Through a lens and off the pictures' middle: as well as by the pixels themselves."""
    fields = store.read(range(7), [*PLACE_FIELDS])
    numbers, valid = [0, 1, 3, 4, 5, 6, 7], fields["valid"]
    seen = np.zeros((*valid.shape, 21, 2))
    for row, number in enumerate(numbers):
        for view, camera in enumerate(CAMERAS):
            inverse = invert_affine(fields["crop_matrix"][row, view])
            pixels = transform_points(inverse, project(camera, _hand(number)))
            seen[row, view] = (2 * pixels + 1) / CROP - 1
            if fields["left"][row]:
                seen[row, view, :, 0] *= -1
    assert np.abs(seen[valid]).max() < 1.5  # the region is about the hand
    straight = straightened(fields, seen)
    np.testing.assert_allclose(bent(fields, straight)[valid], seen[valid], atol=1e-9)
    assert np.isnan(bent(fields, straight)[~valid]).all()
    T, focal = crop_poses(fields)
    away = []
    for row, number in enumerate(numbers):
        cameras = [
            Camera("", 2, 2, np.diag([focal[row, v], focal[row, v], 1]), T_camera_world=T[row, v])
            for v in range(3)
        ]
        hand = _hand(number) * ([-1, 1, 1] if fields["left"][row] else [1, 1, 1])
        sigma = np.ones((3, 21))
        met = triangulate(cameras, straight[row, :3], sigma)
        np.testing.assert_allclose(met, hand, atol=1e-6)
        away.append(np.linalg.norm(triangulate(cameras, seen[row, :3], sigma) - hand, axis=-1))
    assert np.median(away) > 0.002  # a lens that was left out would be noticed


def test_a_store_goes_on_and_ends_where_it_did(
    store: InstantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.whole("coarse")
    (store.folder / "part-00001" / "done.json").unlink()
    request = StoreRequest("recording", {"path": "stub"}, ALL, 4, Augmentation())
    recording_source._in_order.cache_clear()
    again = write_store(request, store.folder, 1, lambda *_: None)
    np.testing.assert_array_equal(again.whole("coarse"), first)
    endless = StoreRequest("renders", {}, ALL, 4, None)
    with pytest.raises(ValueError, match="'renders' has no end"):
        write_store(endless, store.folder, 1, lambda *_: None)


def test_hands_of_a_real_recording_are_found_again(shared_data: Path, tmp_path: Path) -> None:
    try:
        landmark_network_path("palm_detection_full")
    except AssetError as error:
        pytest.skip(str(error))
    recording_source._in_order.cache_clear()
    options = {"path": str(shared_data / "four-cameras"), "begin": 0.27, "end": 0.3}
    request = StoreRequest("recording", options, ALL, 4, None)
    made = write_store(request, tmp_path, 1, lambda *_: None)
    fields = made.read(range(len(made)), [*PLACE_FIELDS, "landmarks", "presence"])
    valid = fields["valid"]
    assert len(made) >= 4 and valid.sum(1).min() >= 2 and set(fields["left"]) == {True, False}
    assert np.median(fields["presence"][valid]) > 0.9
    # the region is the one that what is seen in the crop leads to again
    again = rois_from_landmarks(fields["landmarks"][valid][..., :2])
    assert np.median(np.abs(again[:, :2])) < 0.1
    assert np.median(again[:, 2]) == pytest.approx(2.0, abs=0.3)
    straight = straightened(fields, fields["landmarks"][..., :2])
    T, focal = crop_poses(fields)
    errors = []
    for row in range(len(made)):
        there = np.flatnonzero(valid[row])
        cameras = [
            Camera("", 2, 2, np.diag([focal[row, v], focal[row, v], 1]), T_camera_world=T[row, v])
            for v in there
        ]
        met = triangulate(cameras, straight[row, there], np.ones((len(there), 21)))
        side = CROP * np.sqrt(np.linalg.det(fields["crop_matrix"][row, there][..., :2]))
        for view, camera in enumerate(cameras):
            away = np.linalg.norm(project(camera, met) - straight[row, there[view]], axis=-1)
            errors.append(away * side[view] / 2)
    assert np.median(errors) < 6.0  # pixels of the camera; the landmarks themselves are 4 apart
