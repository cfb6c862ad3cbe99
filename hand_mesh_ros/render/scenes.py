"""A hand, its arm, what hides it and the cameras around it: everything of a picture but light.

A `SceneSpec` is a few numbers; the same numbers give the same scene. Who it is, where and with
what are seeds of their own, so that a split can keep people, places and things apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import look_at
from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.render import sampling
from hand_mesh_ros.render.forearm import Rings, with_forearm
from hand_mesh_ros.render.grasps import grasp
from hand_mesh_ros.render.occluders import Thing, random_thing, random_turn
from hand_mesh_ros.render.sampling import HandPlace
from hand_mesh_ros.render.shading import Surface
from hand_mesh_ros.render.skin import Person, random_person
from hand_mesh_ros.types import Camera, FloatArray, ManoParameters, Side

Occluder = Literal["none", "held", "free", "hand"]
HAND, ARM, OTHER, THING = range(4)  # whose a face is
SKIN, CLOTH, OBJECT = range(3)  # what a vertex is made of; as in `warp_shade`
CENTRE = np.array([0.0, 0.0, 0.36])
_HAND_LENGTH = 0.18
_ARM: Rings = (
    (0.012, 1.01), (0.03, 1.05), (0.05, 1.12), (0.09, 1.24), (0.14, 1.38), (0.22, 1.52),
    (0.32, 1.6), (0.45, 1.6),
)  # fmt: skip
_SECONDS_PER_PLACE = 0.9
_OTHER: dict[Side, Side] = {"right": "left", "left": "right"}


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """What is drawn: seeds of the scene, the person, the environment and the thing.

    ``views`` cameras of ``width`` x ``height`` pixels see it. ``clock``: seconds into a motion, or
    None for an instant of its own.
    """

    seed: int
    person: int
    environment: int
    thing: int
    occluder: Occluder = "none"
    side: Side = "right"
    views: int = 1
    width: int = 256
    height: int = 256
    clock: float | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """The geometry of a spec, in the world.

    ``points``, ``normals``, ``albedo``, ``rest`` (V, 3), ``material`` (V,), ``faces`` (F, 3) and
    ``owner`` (F,): the hand's faces come first. The hand's own ``vertices`` are the first points.
    ``rest`` is in the pose and placement in which a right hand's skin is painted.
    """

    spec: SceneSpec
    person: Person
    model: HandModel
    mano: ManoParameters
    joints: FloatArray
    cameras: tuple[Camera, ...]
    thing: Thing | None
    points: FloatArray
    normals: FloatArray
    albedo: FloatArray
    rest: FloatArray
    material: NDArray[np.int32]
    faces: NDArray[np.int64]
    owner: NDArray[np.int8]

    @property
    def vertices(self) -> FloatArray:
        """The posed hand model, (778 or so, 3)."""
        return self.points[: self.model.num_vertices]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    points: FloatArray
    normals: FloatArray
    albedo: FloatArray
    rest: FloatArray
    material: NDArray[np.int32]
    faces: NDArray[np.int64]
    owner: NDArray[np.int8]


def make_scene(spec: SceneSpec) -> Scene:
    """The scene of a spec. Raises ``ValueError`` for numbers that make no picture."""
    if not 1 <= spec.views <= 8 or min(spec.width, spec.height) < 32:
        raise ValueError(f"a scene has 1 to 8 views of at least 32 pixels, got {spec}")
    person, models = random_person(spec.person), _models()
    rng = np.random.default_rng([spec.seed, 1])
    thing = None if spec.occluder in ("none", "hand") else _thing(spec)
    held: tuple[FloatArray, Thing] | None = None
    if thing is not None and spec.occluder == "held":
        held = grasp(rng, models["right"], person.betas, thing)
    place = _place(spec, person, None if held is None else held[0])
    cameras = rig(np.random.default_rng([spec.seed, 2]), spec.views, spec.width, spec.height)
    model = models[spec.side]
    hand, mano, joints = _posed(model, place, person)
    parts = [_dressed(model, hand, place, person, (HAND, ARM))]
    if held is not None:
        thing = _carried(held[1], mano, spec.side)
    elif thing is not None:
        thing = _between(np.random.default_rng([spec.seed, 3]), thing, cameras[0], joints)
    if spec.occluder == "hand":
        other = _other_place(np.random.default_rng([spec.seed, 4]), place, person, cameras[0])
        second = models[other.side]
        vertices, _, _ = _posed(second, other, person)
        parts.append(_dressed(second, vertices, other, person, (OTHER, OTHER)))
    if thing is not None:
        parts.append(_solid(thing))
    joined = _joined(parts)
    return Scene(spec, person, model, mano, joints, cameras, thing, **joined)


def rig(rng: np.random.Generator, views: int, width: int, height: int) -> tuple[Camera, ...]:
    """``view_0``...: cameras around `CENTRE`, 0.32 to 0.8 m away, with such a field of view that

    the hand is a third to two thirds of the picture long, as in a webcam's or a crop of it.
    """
    share = rng.uniform(0.38, 0.68)
    half = min(12 * views, 75) if views > 1 else 0
    turns = rng.normal(0, 12) + np.linspace(-half, half, views)
    cameras = []
    for k, turn in enumerate(np.deg2rad(turns)):
        rise = np.deg2rad(rng.uniform(-8, 38))
        distance = rng.uniform(0.32, 0.8)
        focal = share * min(width, height) * distance / _HAND_LENGTH
        across = np.cos(rise) * np.array([np.cos(turn), np.sin(turn)])
        eye = CENTRE + distance * np.array([*across, np.sin(rise)])
        aim = CENTRE + rng.normal(0, 0.10, 3) * _HAND_LENGTH / share
        up = exp_so3(np.array([np.deg2rad(6) * rng.normal(), 0, 0])) @ np.array([0.0, 0, 1])
        off = rng.normal(0, 0.01, 2) * width
        K = np.array(
            [[focal, 0, (width - 1) / 2 + off[0]], [0, focal, (height - 1) / 2 + off[1]], [0, 0, 1]]
        )
        D = np.array([rng.uniform(-0.2, 0.04), rng.uniform(0, 0.06), *rng.normal(0, 5e-4, 2), 0])
        name = f"view_{k}"
        pose = look_at(eye, aim, up)
        cameras.append(Camera(name, width, height, K, "plumb_bob", D, pose, f"{name}_optical"))
    return tuple(cameras)


@lru_cache(maxsize=1)
def _models() -> dict[Side, HandModel]:
    right = load_hand_model()
    return {"right": right, "left": mirror_model(right)}


def _thing(spec: SceneSpec) -> Thing:
    return random_thing(spec.thing, held=spec.occluder == "held")


def _place(spec: SceneSpec, person: Person, held: FloatArray | None) -> HandPlace:
    """Where the hand is: drawn once, or on its way between two of the places of its motion."""
    if spec.clock is None:
        return _drawn(np.random.default_rng([spec.seed, 5]), spec.side, person, held)
    step, share = divmod(max(spec.clock, 0.0) / _SECONDS_PER_PLACE, 1.0)
    first, second = (
        _drawn(np.random.default_rng([spec.seed, 5, int(step) + k]), spec.side, person, held)
        for k in (0, 1)
    )
    return sampling.between(first, second, share)


def _drawn(
    rng: np.random.Generator, side: Side, person: Person, held: FloatArray | None
) -> HandPlace:
    rotation = sampling.heading(rng)
    pose = held
    if pose is None:
        pose = sampling.random_pose(rng, _models()["right"], person.betas)
    return sampling.placed(side, rotation, pose, CENTRE + rng.normal(0, 0.012, 3))


def _posed(
    model: HandModel, place: HandPlace, person: Person
) -> tuple[FloatArray, ManoParameters, FloatArray]:
    """Vertices (V, 3), parameters and joints (21, 3) of a hand with its palm where it belongs."""
    orient, pose, betas = place.orient, place.pose, person.betas
    posed = forward(model, orient[None], pose[None], betas[None], np.zeros((1, 3)))
    assert posed.vertices is not None
    transl = place.palm - (posed.joints[0, 0] + posed.joints[0, 9]) / 2
    mano = ManoParameters(model.model_id, place.side, orient, pose, betas, transl)
    return posed.vertices[0] + transl, mano, posed.joints[0] + transl


def _dressed(
    model: HandModel, vertices: FloatArray, place: HandPlace, person: Person,
    owners: tuple[int, int],
) -> _Part:  # fmt: skip
    """The hand with arm and sleeve; ``owners`` of the hand's and of the other faces."""
    sign = 1.0 if place.side == "right" else -1.0
    albedo = person.skin.albedo(model)
    none = np.zeros(len(vertices))
    axis = exp_so3(place.orient)[:, 0] * sign
    start = 0.02 + 0.2 * person.sleeve
    far = np.array([0.0, 0.03, 0.07, 0.13, 0.22, 0.45 - start]) + start
    girth = np.interp(far, *np.transpose(_ARM)) + 0.2
    cuff = [(start - 0.002, girth[0] - 0.1)]
    rings: Rings = tuple([*cuff, *zip(far.tolist(), girth.tolist(), strict=True)])
    # People's elbows hang below their hands and behind them.
    elbow = vertices.mean(0) + 0.25 * axis + np.array([-0.12, 0.03 * -sign, -0.10])
    arm = with_forearm(
        model, Surface(vertices, model.faces, albedo, none), axis, elbow, person.cloth,
        bare=_ARM, covered=rings,
    )  # fmt: skip
    rest = with_forearm(
        model, Surface(model.v_template, model.faces, albedo, none), np.array([sign, 0.0, 0]),
        model.v_template.mean(0) + np.array([sign, 0.0, 0]), person.cloth,
        bare=_ARM, covered=rings,
    ).vertices * [sign, 1, 1]  # fmt: skip
    material = np.full(len(arm.vertices), SKIN, dtype=np.int32)
    first_cloth = len(arm.vertices) - len(rings) * _ring_size(model)
    material[first_cloth:] = CLOTH
    beyond = (arm.faces >= model.num_vertices).any(axis=1)
    owner = np.where(beyond, owners[1], owners[0]).astype(np.int8)
    normals = vertex_normals(arm.vertices, arm.faces)
    return _Part(arm.vertices, normals, arm.albedo, rest, material, arm.faces, owner)


def _ring_size(model: HandModel) -> int:
    from hand_mesh_ros.render.forearm import open_wrist

    return len(open_wrist(model)[0])


def _carried(thing: Thing, mano: ManoParameters, side: Side) -> Thing:
    """A thing in a right model's frame as the posed hand carries it; mirrored for a left one.

    Solids have a mirror plane at x = 0 of their own, so that a mirrored pose is a rotation again.
    """
    pose = thing.pose
    if side == "left":
        mirror = np.diag([-1.0, 1, 1, 1])
        pose = mirror @ pose @ mirror
    model = _models()[side]
    wrist = (model.J_regressor @ (model.v_template + model.shapedirs @ mano.betas))[0]
    rotation = exp_so3(mano.global_orient)
    carry = np.eye(4)
    carry[:3, :3], carry[:3, 3] = rotation, wrist + mano.transl - rotation @ wrist
    return replace(thing, pose=carry @ pose)


def _between(
    rng: np.random.Generator, thing: Thing, camera: Camera, joints: FloatArray
) -> Thing:
    """A thing in the air that hides some of the hand from the first camera."""
    target = joints[rng.integers(21)] + rng.normal(0, 0.012, 3)
    share = rng.uniform(0.72, 0.9)
    pose = np.eye(4)
    pose[:3, :3] = random_turn(rng)
    pose[:3, 3] = camera.centre + share * (target - camera.centre)
    return replace(thing, pose=pose)


def _other_place(
    rng: np.random.Generator, place: HandPlace, person: Person, camera: Camera
) -> HandPlace:
    """The person's other hand, partly before the first."""
    side = _OTHER[place.side]
    pose = sampling.random_pose(rng, _models()["right"], person.betas)
    towards = camera.centre - place.palm
    towards /= np.linalg.norm(towards)
    aside = np.array([0.0, -1.0 if side == "right" else 1.0, 0.0])
    palm = place.palm + rng.uniform(0.055, 0.10) * towards + rng.uniform(0.02, 0.08) * aside
    palm = palm + np.array([0, 0, rng.uniform(-0.06, 0.03)])
    made = sampling.placed(side, sampling.heading(rng, 0.7), pose, palm)
    return replace(made, palm=palm)


def _solid(thing: Thing) -> _Part:
    local, faces = thing.mesh()
    points = local @ thing.pose[:3, :3].T + thing.pose[:3, 3]
    count = len(points)
    return _Part(
        points, vertex_normals(points, faces), np.tile(thing.colour, (count, 1)), local,
        np.full(count, OBJECT, np.int32), faces, np.full(len(faces), THING, np.int8),
    )  # fmt: skip


def _joined(parts: list[_Part]) -> dict[str, NDArray]:
    """All parts as one mesh, the faces of the hand first."""
    offsets = np.cumsum([0, *(len(p.points) for p in parts[:-1])])
    faces = np.concatenate([p.faces + o for p, o in zip(parts, offsets, strict=True)])
    owner = np.concatenate([p.owner for p in parts])
    order = np.argsort(owner != HAND, kind="stable")
    names = ("points", "normals", "albedo", "rest", "material")
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    return {**joined, "faces": faces[order], "owner": owner[order]}
