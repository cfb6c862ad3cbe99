"""Depth images at a hand's landmarks: holes, walls, and things in front."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from hand_mesh_ros.evaluation.skin_depth import measure
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian, load_landmark_model
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.depth import SKIN, depth_at_landmarks
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.landmark_fit import LandmarkFit, reprojection_misfit
from hand_mesh_ros.render.depth_sensor import DepthSensor
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import Camera, View

Z = 2


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture: depth image, what a network says, and the true landmarks and joints."""

    camera: Camera
    depth: np.ndarray
    uv: np.ndarray
    world: np.ndarray
    landmarks: np.ndarray  # (21, 3) in the camera's axes
    joints: np.ndarray

    def read(self, depth: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        depth = self.depth if depth is None else depth
        return depth_at_landmarks(depth, self.camera, self.uv, self.world)

    def errors(self, depth: np.ndarray | None = None) -> np.ndarray:
        return self.read(depth)[0] - self.landmarks[:, Z]


@pytest.fixture(scope="module", params=[0, 1], ids=["seed0", "seed1"])
def pictures(request: pytest.FixtureRequest) -> list[Seen]:
    """Thirty of a sensor with 20 % holes, and landmarks as wrong as a network's."""
    seed: int = request.param
    rng = np.random.default_rng(seed)
    cell = SyntheticCell(cameras=2, seconds=7.5, fps=2, seed=seed, depth=DepthSensor())
    model, out = load_hand_model(), []
    for index in range(len(cell)):
        hand = cell.ground_truth(index)[0]
        mano = hand.mano
        params = np.concatenate([mano.global_orient, mano.hand_pose, mano.betas, mano.transl])
        points = landmarks_and_jacobian(model, params[None])[0][0]
        for frame in cell.frame_set(index).frames:
            local = transform_points(frame.camera.T_camera_world, points)
            assert frame.depth is not None
            uv = project(frame.camera, points) + rng.normal(0, 3, (21, 2))
            # The network knows no sizes: its hand is a tenth too large or too small.
            world = rng.uniform(0.9, 1.1) * (local - local.mean(0)) + rng.normal(0, 0.006, (21, 3))
            out.append(Seen(frame.camera, frame.depth, uv, world, local, hand.joints))
    return out


def test_landmarks_are_found_through_holes(pictures: list[Seen]) -> None:
    errors = np.array([seen.errors() for seen in pictures])
    sigma = np.array([seen.read()[1] for seen in pictures])
    assert np.isnan(errors).mean() < 0.25
    assert np.nanmedian(np.abs(errors)) < 0.006
    assert np.nanmax(np.abs(np.nanmedian(errors, axis=1))) < 0.02
    told = np.isfinite(errors)
    assert (np.isfinite(sigma) == told).all()
    assert (np.abs(errors[told]) < 3 * sigma[told]).mean() > 0.95
    assert np.nanmedian(sigma) < 0.015


def test_the_skin_is_taken_into_account(pictures: list[Seen]) -> None:
    bare = [
        depth_at_landmarks(s.depth, s.camera, s.uv, s.world, skin=np.zeros(21))[0] for s in pictures
    ]
    truth = np.array([s.landmarks[:, Z] for s in pictures])
    assert np.nanmedian(truth - np.array(bare)) > 0.008  # the surface, in front of the joints
    assert abs(np.nanmedian([s.errors() for s in pictures])) < 0.004


@pytest.mark.parametrize("behind", [0.06, 0.12, 0.5])
def test_a_wall_behind_is_not_the_hand(pictures: list[Seen], behind: float) -> None:
    for seen in pictures[::5]:
        wall = np.float32(seen.landmarks[:, Z].max() + behind)
        depth = np.where((seen.depth == 0) | (seen.depth > wall), wall, seen.depth)
        errors = seen.errors(depth)
        assert np.nanmax(errors) < behind - 0.015
        assert abs(np.nanmedian(errors)) < 0.015


def test_something_in_front_hides_landmarks_and_moves_none(pictures: list[Seen]) -> None:
    wrong, hidden = [], []
    for seen in pictures:
        columns = np.arange(seen.camera.width)[None, :]
        edge = np.quantile(seen.uv[:, 0], 0.35)
        thing = np.float32(seen.landmarks[:, Z].min() - 0.08)
        errors = seen.errors(np.where(columns < edge, thing, seen.depth))
        covered = seen.uv[:, 0] < edge - 6
        hidden.append(np.isnan(errors[covered]).mean())
        wrong.append(np.abs(np.nanmedian(errors)))
    assert np.median(wrong) < 0.006 and np.quantile(wrong, 0.9) < 0.02
    assert np.mean(hidden) > 0.9


@pytest.mark.parametrize("hole", [0.0, np.nan, np.inf, -np.inf, -1.0, 1e6])
def test_no_depth_no_opinion(pictures: list[Seen], hole: float) -> None:
    seen = pictures[0]
    for result in seen.read(np.full_like(seen.depth, hole)):
        assert result.shape == (21,) and np.isnan(result).all()


def test_a_far_wall_alone_is_no_hand(pictures: list[Seen]) -> None:
    """What is not where the hand's size lets expect it, is another thing."""
    seen = pictures[0]
    far = np.float32(3 * seen.landmarks[:, Z].mean())
    assert np.isnan(seen.read(np.full_like(seen.depth, far))[0]).all()


def test_landmarks_outside_the_picture_are_unknown(pictures: list[Seen]) -> None:
    seen = pictures[0]
    away = replace(seen, uv=seen.uv + [seen.camera.width, 0])
    assert np.isnan(away.read()[0]).all()
    nowhere = replace(seen, uv=np.full((21, 2), np.nan))
    assert np.isnan(nowhere.read()[0]).all()


def test_the_table_is_what_the_measurement_finds() -> None:
    skin, sigma = measure(seeds=2, sets=12)
    assert np.abs(skin - SKIN).max() < 0.005
    assert np.abs(skin - SKIN).mean() < 0.0015
    assert (sigma > 0.001).all()


def plain_view(seen: Seen) -> View:
    """The picture's view without depth."""
    return View(
        index=0,
        camera=seen.camera,
        uv=seen.uv,
        sigma=np.full(21, 3.0),
        world=seen.world,
        presence=0.95,
        right=0.95,
        roi=rois_from_landmarks(seen.uv)[0],
    )


def test_one_view_with_depth_knows_the_distance(pictures: list[Seen]) -> None:
    backend = LandmarkFit({"right": load_hand_model()})
    errors: dict[bool, list[float]] = {True: [], False: []}
    sources: dict[bool, set[str]] = {True: set(), False: set()}
    for seen in pictures:
        depth, sigma = seen.read()
        plain = plain_view(seen)
        for told, view in ((False, plain), (True, replace(plain, depth=depth, depth_sigma=sigma))):
            (estimate,) = backend.estimate([HandViews((view,), right_votes=10.0)])
            assert estimate is not None
            errors[told].append(float(np.linalg.norm(estimate.joints - seen.joints, axis=1).mean()))
            sources[told].add(estimate.scale_source)
            # distance is measured: what landmarks leave over counts as that of several views
            factor = load_landmark_model().misfit[told]
            wider = max(1.0, factor * reprojection_misfit(estimate, [view]))
            assert estimate.widened == pytest.approx(wider)
    assert sources == {True: {"depth"}, False: {"model_prior"}}
    assert np.median(errors[True]) < 0.010
    assert np.median(errors[True]) < 0.4 * np.median(errors[False])


def test_depth_of_nothing_changes_nothing(pictures: list[Seen]) -> None:
    view = plain_view(pictures[0])
    blind = replace(view, depth=np.full(21, np.nan), depth_sigma=np.full(21, np.nan))
    backend = LandmarkFit({"right": load_hand_model()})
    hands = [HandViews((v,), right_votes=10.0) for v in (view, blind)]
    plain, same = backend.estimate(hands)
    assert plain is not None and same is not None
    assert same.scale_source == "model_prior"
    np.testing.assert_array_equal(same.joints, plain.joints)
