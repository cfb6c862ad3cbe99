"""Every convention against something that does not come from the table it tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand import conventions as conv
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.layout import JOINT_NAMES, OPENXR_NAMES, OPENXR_OF_OPENPOSE, TIP_SETS
from hand_mesh_ros.hand.model import HandModel, load_hand_model, to_smplx

SINGLE = 1e-7  # m: skinning weights are stored in single precision, and sum to one to that

# As published, written out: tests that repeat the construction could not find it wrong.
HO3D_NAMES = (
    "wrist index_mcp index_pip index_dip middle_mcp middle_pip middle_dip little_mcp little_pip "
    "little_dip ring_mcp ring_pip ring_dip thumb_cmc thumb_mcp thumb_ip "
    "thumb_tip index_tip middle_tip ring_tip little_tip"
).split()
RHD_NAMES = (
    "wrist thumb_tip thumb_ip thumb_mcp thumb_cmc index_tip index_dip index_pip index_mcp "
    "middle_tip middle_dip middle_pip middle_mcp ring_tip ring_dip ring_pip ring_mcp "
    "little_tip little_dip little_pip little_mcp"
).split()
OPENXR_ORDER = (
    "PALM WRIST THUMB_METACARPAL THUMB_PROXIMAL THUMB_DISTAL THUMB_TIP INDEX_METACARPAL "
    "INDEX_PROXIMAL INDEX_INTERMEDIATE INDEX_DISTAL INDEX_TIP MIDDLE_METACARPAL MIDDLE_PROXIMAL "
    "MIDDLE_INTERMEDIATE MIDDLE_DISTAL MIDDLE_TIP RING_METACARPAL RING_PROXIMAL "
    "RING_INTERMEDIATE RING_DISTAL RING_TIP LITTLE_METACARPAL LITTLE_PROXIMAL "
    "LITTLE_INTERMEDIATE LITTLE_DISTAL LITTLE_TIP"
)


@pytest.fixture(scope="module", params=["right", "left"])
def model(request: pytest.FixtureRequest) -> HandModel:
    """A hand as MANO's: pose correctives, mean pose, pose components, a wrist beside the x axis."""
    rng = np.random.default_rng(2)
    free = load_hand_model(side=request.param)
    return replace(
        free,
        v_template=free.v_template + [0.0, 0.0064, 0.0062],
        posedirs=rng.normal(0, 5e-4, free.posedirs.shape),
        hands_mean=rng.normal(0, 0.2, 45),
        hands_components=np.linalg.qr(rng.normal(size=(45, 45)))[0],
    )


def params(rng: np.random.Generator, count: int = 4) -> list[np.ndarray]:
    """Global orientation, hand pose, betas, translation."""
    return [rng.normal(0, s, (count, n)) for s, n in ((1, 3), (0.4, 45), (1, 10), (0.3, 3))]


def vertices(model: HandModel, *parts: Any, scale: Any = None) -> np.ndarray:
    return np.asarray(forward(model, *parts, scale=scale).vertices)


# --- Joint orders ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("openpose", JOINT_NAMES),
        ("mediapipe", JOINT_NAMES),
        ("freihand", JOINT_NAMES),
        ("ho3d", HO3D_NAMES),
        ("mano", HO3D_NAMES),
        ("rhd", RHD_NAMES),
    ],
)
def test_orders_by_their_published_names(order: Any, names: list[str]) -> None:
    ours = np.array(JOINT_NAMES)[:, None]
    theirs = np.array(names)[:, None]
    assert conv.to_openpose(theirs, order)[:, 0].tolist() == list(JOINT_NAMES)
    assert conv.from_openpose(ours, order)[:, 0].tolist() == list(names)


def test_every_order_is_known_and_no_other() -> None:
    assert set(conv.JOINT_ORDERS) == set(get_args(conv.JointOrder))
    with pytest.raises(ValueError, match="'smplx' is unknown; choose one of openpose"):
        conv.to_openpose(np.zeros((21, 3)), "smplx")  # type: ignore[arg-type]


def test_mano_order_is_smplx_s(model: HandModel, rng: np.random.Generator) -> None:
    """smplx's 16 joints and tips, gathered, are our joints."""
    orient, pose, betas, transl = params(rng)
    layer = to_smplx(model, batch_size=4, dtype=torch.float64)
    names = ("global_orient", "hand_pose", "betas", "transl")
    tensors = dict(zip(names, map(torch.tensor, (orient, pose, betas, transl)), strict=True))
    out = layer(**tensors)
    mano = np.concatenate([out.joints.numpy()[:, :16], out.vertices.numpy()[:, model.tips]], 1)
    ours = forward(model, orient, pose, betas, transl).joints
    np.testing.assert_allclose(conv.to_openpose(mano, "mano"), ours, atol=1e-7)


def test_openxr_names_and_places() -> None:
    assert [name.upper() for name in OPENXR_NAMES] == OPENXR_ORDER.split()
    published = [1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 17, 18, 19, 20, 22, 23, 24, 25]
    assert OPENXR_OF_OPENPOSE.tolist() == published
    part = {"mcp": "proximal", "pip": "intermediate", "dip": "distal", "tip": "tip"}
    thumb = {"cmc": "metacarpal", "mcp": "proximal", "ip": "distal", "tip": "tip"}
    for name, place in zip(JOINT_NAMES[1:], OPENXR_OF_OPENPOSE[1:], strict=True):
        finger, kind = name.split("_")
        assert OPENXR_NAMES[place] == f"{finger}_{(thumb if finger == 'thumb' else part)[kind]}"


def test_openxr_there_and_back(rng: np.random.Generator) -> None:
    joints = rng.normal(size=(2, 21, 3))
    joints[1, 8] = np.nan
    openxr, valid = conv.to_openxr_order(joints)
    assert openxr.shape == (2, 26, 3) and valid.sum(1).tolist() == [21, 20]
    assert not valid[:, [0, 6, 11, 16, 21]].any() and not valid[1, 10]
    np.testing.assert_array_equal(conv.from_openxr(openxr), joints)


def test_fingertip_sets_by_name() -> None:
    """The published tables, thumb to little finger."""
    assert TIP_SETS["mano"] == (744, 320, 443, 554, 671)
    assert TIP_SETS["freihand"] == (744, 320, 443, 555, 672)
    assert TIP_SETS["ho3d"] == (744, 333, 444, 555, 672)
    assert TIP_SETS["manopth"] == (745, 317, 444, 556, 673)
    assert TIP_SETS["amvur"] == (745, 317, 445, 556, 673)
    assert TIP_SETS["handoccnet"] == (728, 353, 442, 576, 694)


# --- Pose -----------------------------------------------------------------------------------


def test_mean_pose_is_smplx_s(model: HandModel, rng: np.random.Generator) -> None:
    """A relative pose in smplx with its mean is our total pose; without, it bends every finger."""
    orient, offsets, betas, transl = params(rng)
    layer = to_smplx(model, batch_size=4, dtype=torch.float64, flat_hand_mean=False)
    names = ("global_orient", "hand_pose", "betas", "transl")
    tensors = dict(zip(names, map(torch.tensor, (orient, offsets, betas, transl)), strict=True))
    theirs = layer(**tensors).vertices.numpy()
    total = conv.pose_with_mean(model, offsets)
    np.testing.assert_allclose(vertices(model, orient, total, betas, transl), theirs, atol=1e-7)
    wrong = vertices(model, orient, offsets, betas, transl)
    assert np.abs(wrong - theirs).max() > 0.005
    np.testing.assert_allclose(conv.pose_without_mean(model, total), offsets, atol=1e-12)


def test_pose_components_are_smplx_s(model: HandModel, rng: np.random.Generator) -> None:
    orient, _, betas, transl = params(rng)
    coefficients = rng.normal(0, 0.5, (4, 6))
    layer = to_smplx(
        model, batch_size=4, dtype=torch.float64, flat_hand_mean=False, use_pca=True,
        num_pca_comps=6,
    )  # fmt: skip
    names = ("global_orient", "hand_pose", "betas", "transl")
    tensors = dict(
        zip(names, map(torch.tensor, (orient, coefficients, betas, transl)), strict=True)
    )
    theirs = layer(**tensors).vertices.numpy()
    total = conv.pose_from_pca(model, coefficients)
    np.testing.assert_allclose(vertices(model, orient, total, betas, transl), theirs, atol=1e-7)


def test_models_without_mean_pose_say_so() -> None:
    free = load_hand_model()
    with pytest.raises(ValueError, match="has no mean pose.*MANO_RIGHT.pkl"):
        conv.pose_with_mean(free, np.zeros(45))
    with pytest.raises(ValueError, match="has 0 pose components, not 6"):
        conv.pose_from_pca(free, np.zeros(6))


def test_mean_pose_and_components_are_mirrored_with_the_hand(model: HandModel) -> None:
    other = conv.mirror_model(model)
    coefficients = np.linspace(-1, 1, 12)
    np.testing.assert_allclose(
        conv.pose_from_pca(other, coefficients),
        conv.mirror_axis_angle(conv.pose_from_pca(model, coefficients)),
        atol=1e-12,
    )


# --- Place ----------------------------------------------------------------------------------


def test_wrist_and_translation(model: HandModel, rng: np.random.Generator) -> None:
    orient, pose, betas, transl = params(rng)
    scale = rng.uniform(0.8, 1.2, 4)
    for given, factor in ((None, 1.0), (scale, scale)):
        joints = forward(model, orient, pose, betas, transl, given).joints
        wrist = conv.wrist_from_transl(model, betas, transl, factor)
        np.testing.assert_allclose(wrist, joints[:, 0], atol=1e-12)
        np.testing.assert_allclose(
            conv.transl_from_wrist(model, betas, wrist, factor), transl, atol=1e-12
        )
    # Not the mean shape's wrist, and not the translation itself.
    assert np.abs(conv.wrist_from_transl(model, 0 * betas, transl) - joints[:, 0]).max() > 1e-3
    assert np.linalg.norm(joints[:, 0] - transl, axis=-1).min() > 0.05


# --- Axes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "right", "up", "forward_"),
    [
        ("opencv", [1, 0, 0], [0, -1, 0], [0, 0, 1]),
        ("opengl", [1, 0, 0], [0, 1, 0], [0, 0, -1]),
        ("pytorch3d", [-1, 0, 0], [0, 1, 0], [0, 0, 1]),
    ],
)
def test_axes_by_what_they_mean(axes: Any, right: Any, up: Any, forward_: Any) -> None:
    """One metre to the right, up and ahead, in each kind of axes."""
    optical = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, 1]])
    there = np.array([right, up, forward_], dtype=float)
    np.testing.assert_array_equal(conv.convert_points(optical, "opencv", axes), there)
    np.testing.assert_array_equal(conv.convert_points(there, axes, "opencv"), optical)
    assert np.linalg.det(conv.CAMERA_AXES[axes]) == 1


@pytest.mark.parametrize("source", get_args(conv.Axes))
@pytest.mark.parametrize("target", get_args(conv.Axes))
def test_objects_keep_their_place(source: Any, target: Any, rng: np.random.Generator) -> None:
    """A point of an object seen in the camera: converted as a point, or carried by its pose."""
    R, t, point = exp_so3(rng.normal(size=3)), rng.normal(size=3), rng.normal(size=3)
    moved = conv.convert_points(R @ point + t, source, target)
    carried = conv.convert_rotations(R, source, target) @ point
    np.testing.assert_allclose(moved, carried + conv.convert_points(t, source, target), atol=1e-12)


@pytest.mark.parametrize("target", ["opengl", "pytorch3d"])
@pytest.mark.parametrize("scaled", [False, True])
def test_hand_in_other_axes(
    model: HandModel, target: Any, scaled: bool, rng: np.random.Generator
) -> None:
    orient, pose, betas, transl = params(rng)
    scale = rng.uniform(0.8, 1.2, 4) if scaled else None
    factor = 1.0 if scale is None else scale
    before = vertices(model, orient, pose, betas, transl, scale=scale)
    want = conv.convert_points(before, "opencv", target)
    hand = conv.convert_hand(model, orient, betas, transl, "opencv", target, factor)
    after = vertices(model, hand.global_orient, pose, betas, hand.transl, scale=scale)
    np.testing.assert_allclose(after, want, atol=SINGLE)
    back = conv.convert_hand(model, *hand[:1], betas, hand.transl, target, "opencv", factor)
    np.testing.assert_allclose(back.transl, transl, atol=1e-12)
    # The trap: the translation turned as if it were a point puts the hand centimetres away.
    trap = conv.convert_points(transl, "opencv", target)
    wrong = vertices(model, hand.global_orient, pose, betas, trap, scale=scale)
    assert np.linalg.norm(wrong - want, axis=-1).min() > 0.01


def test_a_hand_moved_as_a_whole(model: HandModel, rng: np.random.Generator) -> None:
    orient, pose, betas, transl = params(rng)
    R, t = exp_so3(rng.normal(size=3)), rng.normal(size=3)
    want = vertices(model, orient, pose, betas, transl) @ R.T + t
    moved = conv.move_hand(model, R, t, orient, betas, transl)
    np.testing.assert_allclose(vertices(model, moved[0], pose, betas, moved[1]), want, atol=SINGLE)


def test_unknown_axes_are_named() -> None:
    with pytest.raises(ValueError, match="'blender' are unknown; choose one of opencv"):
        conv.change_axes("opencv", "blender")  # type: ignore[arg-type]
