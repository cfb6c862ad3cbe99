from __future__ import annotations

import cv2
import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.limits import pose_limits
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.render.forearm import open_wrist, with_forearm
from hand_mesh_ros.render.motion import HandPath, gesture_names, gesture_pose
from hand_mesh_ros.render.shading import Surface
from hand_mesh_ros.render.studio import CENTRE
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import SIDES, FrameSet, Side


@pytest.fixture(scope="module")
def cell() -> SyntheticCell:
    return SyntheticCell(cameras=3, hands=SIDES, seconds=3, fps=10, seed=4)


@pytest.fixture(scope="module")
def empty() -> SyntheticCell:
    """The same cell without hands: whatever differs from it is hand or sleeve."""
    return SyntheticCell(cameras=3, hands=(), seconds=3, fps=10, seed=4)


def covered(shown: FrameSet, bare: FrameSet) -> list[np.ndarray]:
    return [
        (a.image != b.image).any(axis=2) for a, b in zip(shown.frames, bare.frames, strict=True)
    ]


def test_is_a_recording(cell: SyntheticCell) -> None:
    assert len(cell) == 30 and cell.fps == 10 and len(cell.cameras) == 3
    sets = iter(cell)
    first, second = next(sets), next(sets)
    assert second.stamp_ns - first.stamp_ns == 100_000_000
    for frame, camera in zip(first.frames, cell.cameras, strict=True):
        assert frame.camera is camera and frame.image.shape == (480, 640, 3)
        assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
    with pytest.raises(IndexError, match="30 frame sets"):
        cell.frame_set(30)


def test_same_seed_same_pictures_in_any_order(cell: SyntheticCell) -> None:
    again = SyntheticCell(cameras=3, hands=SIDES, seconds=3, fps=10, seed=4)
    later = again.frame_set(17)
    for index, frames in ((2, again.frame_set(2)), (17, later)):
        for a, b in zip(cell.frame_set(index).frames, frames.frames, strict=True):
            assert np.array_equal(a.image, b.image)
    other = SyntheticCell(cameras=3, hands=SIDES, seconds=3, fps=10, seed=5).frame_set(2)
    assert not np.array_equal(other.frames[0].image, cell.frame_set(2).frames[0].image)


@pytest.mark.parametrize("index", [0, 11, 25])
def test_true_joints_and_vertices_lie_on_the_drawn_hand(
    index: int, cell: SyntheticCell, empty: SyntheticCell
) -> None:
    masks = covered(cell.frame_set(index), empty.frame_set(index))
    for camera, mask in zip(cell.cameras, masks, strict=True):
        for hand in cell.ground_truth(index):
            assert hand.vertices is not None
            points = np.concatenate([hand.joints, hand.vertices])
            u, v = np.rint(project(camera, points)).astype(int).T
            inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
            assert inside.mean() > 0.8
            assert mask[v[inside], u[inside]].mean() > 0.99


def test_the_picture_honours_distortion(cell: SyntheticCell, empty: SyntheticCell) -> None:
    """The outline of the hand is where OpenCV's distorted projection puts it, to a pixel."""
    distances: dict[bool, list[float]] = {True: [], False: []}
    for index in range(0, 30, 3):
        masks = covered(cell.frame_set(index), empty.frame_set(index))
        for camera, mask in zip(cell.cameras, masks, strict=True):
            T = camera.T_camera_world
            rotation, _ = cv2.Rodrigues(T[:3, :3])
            outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
            for hand in cell.ground_truth(index):
                for distorted in distances:
                    D = camera.D if distorted else None
                    uv, _ = cv2.projectPoints(hand.vertices, rotation, T[:3, 3], camera.K, D)
                    u, v = np.rint(uv[:, 0]).astype(int).T
                    ok = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
                    distances[distorted].append(float(outside[v[ok], u[ok]].max(initial=0)))
    assert max(distances[True]) <= 1.5
    assert max(distances[False]) > 2.5


def test_ground_truth_is_the_model_at_its_parameters(cell: SyntheticCell) -> None:
    truth = cell.ground_truth(7)
    assert {hand.side for hand in truth} == set(SIDES)
    for hand in truth:
        model, mano = load_hand_model(side=hand.side), hand.mano
        arrays = (mano.global_orient, mano.hand_pose, mano.betas, mano.transl)
        posed = forward(model, *(a[None] for a in arrays))
        assert posed.vertices is not None
        np.testing.assert_allclose(posed.vertices[0], hand.vertices, atol=1e-12)
        np.testing.assert_allclose(posed.joints[0], hand.joints, atol=1e-12)
        np.testing.assert_allclose(hand.wrist[:3, 3], hand.joints[0], atol=1e-9)
        assert (hand.covariance == 0).all()
        assert np.linalg.norm(hand.joints.mean(axis=0) - CENTRE) < 0.35


def test_offsets_shift_single_cameras() -> None:
    plain = SyntheticCell(cameras=2, seconds=1, fps=10, seed=1, width=160, height=120)
    late = SyntheticCell(
        cameras=2, seconds=1, fps=10, seed=1, width=160, height=120, offsets=(0.0, 0.1)
    )
    shifted = late.frame_set(3)
    assert shifted.spread == pytest.approx(0.1)
    assert np.array_equal(shifted.frames[0].image, plain.frame_set(3).frames[0].image)
    np.testing.assert_allclose(
        late.ground_truth(3)[0].joints, plain.ground_truth(4)[0].joints, atol=1e-12
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"cameras": 0}, "cameras=0"),
        ({"hands": ("right", "right")}, "once"),
        ({"cameras": 2, "offsets": (0.1,)}, "1 offsets for 2 cameras"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SyntheticCell(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", SIDES)
def test_motion_is_smooth_and_within_limits(side: Side) -> None:
    path = HandPath.random(side, CENTRE, np.full(3, 0.1), seed=2)
    times = np.arange(0, 14, 0.01)
    pose = np.array([path.hand_pose(t) for t in times])
    lower, upper = pose_limits(side)
    assert (pose >= lower - 1e-9).all() and (pose <= upper + 1e-9).all()
    place = np.array([path.position(t) for t in times])
    assert np.abs(np.diff(pose, axis=0)).max() < 0.08  # 8 rad/s, a brisk finger
    assert np.linalg.norm(np.diff(place, axis=0), axis=1).max() / 0.01 < 0.4
    assert np.abs(np.diff(pose, 2, axis=0)).max() < 0.004  # no kink between gestures


@pytest.mark.parametrize("side", SIDES)
def test_palms_face_the_cameras(side: Side) -> None:
    cell = SyntheticCell(cameras=2, hands=(side,), seconds=4, fps=5, seed=6)
    for index in range(len(cell)):
        wrist = cell.ground_truth(index)[0].wrist
        assert wrist[0, 2] < -0.6, "the back of the hand points away from the cameras"
        assert wrist[2, 0] > 0.6, "fingers point up"


def test_gestures_mean_what_they_say() -> None:
    model = load_hand_model()
    zeros = np.zeros((1, 3))

    def reaches(name: str) -> np.ndarray:
        """Distance of the tips of index to little from the wrist, relative to the open hand."""
        joints = [
            forward(model, zeros, gesture_pose(g)[None], np.zeros((1, 10)), zeros).joints[0]
            for g in (name, "open")
        ]
        length = [np.linalg.norm(j[[8, 12, 16, 20]] - j[0], axis=1) for j in joints]
        return np.asarray(length[0] / length[1])

    assert (reaches("fist") < 0.7).all() and (reaches("four") > 0.95).all()
    point = reaches("point")
    assert point[0] > 0.95 and (point[1:] < 0.7).all()
    pinch = forward(model, zeros, gesture_pose("pinch")[None], np.zeros((1, 10)), zeros).joints[0]
    assert np.linalg.norm(pinch[4] - pinch[8]) < 0.03
    assert len(set(gesture_names())) >= 10


@pytest.mark.parametrize("side", SIDES)
def test_the_forearm_closes_the_wrist_and_faces_outwards(side: Side) -> None:
    model = load_hand_model(side=side)
    loop, faces = open_wrist(model)
    n = model.num_vertices
    skin = Surface(model.v_template, model.faces, np.ones((n, 3)), np.zeros(n))
    axis = np.array([1.0 if side == "right" else -1.0, 0, 0])
    arm = with_forearm(model, skin, axis, 5 * axis, np.zeros(3))
    assert len(arm.faces) > len(faces) and arm.faces.max() == len(arm.vertices) - 1
    added = arm.vertices[n:]
    middle = arm.vertices[loop].mean(axis=0)
    radial = added - middle - ((added - middle) @ axis)[:, None] * axis
    normals = vertex_normals(arm.vertices, arm.faces)[n:]
    assert ((normals * radial).sum(axis=1) > 0).mean() > 0.98
    assert ((added - middle) @ axis).max() > 0.15
