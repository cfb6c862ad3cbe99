"""Labelled pictures of hands from a few numbers: scenes into samples, for training and tests.

`views_of` gives a scene's samples, one a camera. Points and visibility are made at once; pictures,
masks and depth when they are asked for, every time the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3, log_so3, transform_points
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.render import backgrounds
from hand_mesh_ros.render.labels import ViewLabels, label_view, seen_points
from hand_mesh_ros.render.light import Environment, random_environment
from hand_mesh_ros.render.scenes import Scene, SceneSpec, make_scene
from hand_mesh_ros.render.sensor import Sensor, random_sensor
from hand_mesh_ros.render.shading import to_linear
from hand_mesh_ros.render.skin import folds, nails
from hand_mesh_ros.types import Camera, FloatArray, ImageArray, ManoParameters

if TYPE_CHECKING:
    from hand_mesh_ros.render.warp_shade import World

_ROOMS = 0.3  # share of single views with a room behind them; several views always have it


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """``backgrounds``: folder of images to put behind hands; ``device``: Warp's name of it."""

    backgrounds: Path | None = None
    device: str = "cpu"


class SceneViews:
    """A scene with its labels and pictures. Raises what `scenes.make_scene` raises."""

    def __init__(self, spec: SceneSpec, settings: DrawSettings | None = None) -> None:
        self.spec, self.settings = spec, settings or DrawSettings()

        self._labels: dict[int, ViewLabels] = {}

    @cached_property
    def scene(self) -> Scene:
        return make_scene(self.spec)

    def labels(self, view: int) -> ViewLabels:
        """Masks, depth and visibility in one camera."""
        if view not in self._labels:
            self._labels[view] = label_view(
                self.scene, self.scene.cameras[view], self.settings.device
            )
        return self._labels[view]

    def picture(self, view: int) -> ImageArray:
        """The picture (H, W, 3) of one camera, sRGB uint8."""
        from hand_mesh_ros.render import warp_shade

        camera, sensor = self.scene.cameras[view], self._sensor(view)
        uv, depth = seen_points(camera, self.scene.points)
        layer = warp_shade.picture(self._lit, uv, depth, camera.centre, camera.width, camera.height)
        layer[..., :3] *= self._exposure
        layer = sensor.smear(layer)
        behind = self._behind(camera, view)
        return sensor.expose(layer[..., :3] + (1 - layer[..., 3:]) * behind)

    def samples(self, **where: Any) -> list[HandSample]:
        """One sample a camera; ``where`` as in `sample`, where ``index`` is of the first."""
        first = where.get("index", 0)
        return [
            self.sample(view, **{**where, "index": first + view})
            for view in range(self.spec.views)
        ]

    def sample(
        self, view: int, *, dataset: str = "renders", split: str = "train",
        name: str | None = None, index: int = 0, sequence: str | None = None,
        frame: int | None = None, extras: Mapping[str, Any] | None = None,
    ) -> HandSample:  # fmt: skip
        """The labelled view of one camera, with its place in a data set and ``extras`` to add."""
        scene, spec = self.scene, self.spec
        camera, labels = scene.cameras[view], self.labels(view)
        name = f"{spec.seed:08d}" if name is None else name
        uv = project(camera, scene.joints)

        # A sample keeps the numbers of its scene, not its meshes: a data set has many of them.
        def again() -> SceneViews:
            return scene_views(spec, self.settings)

        return HandSample(
            dataset=dataset, split=split, index=index,
            name=name if spec.views == 1 else f"{name}/{view}",
            camera=camera, side=spec.side, source=Path("renders"),
            load_image=lambda: again().picture(view),
            joints=transform_points(camera.T_camera_world, scene.joints),
            vertices=transform_points(camera.T_camera_world, scene.vertices),
            uv=uv, visibility=labels.joints_seen,
            mano=in_camera(scene.mano, scene.model, camera),
            box=_box(labels.amodal, uv),
            visible_share=labels.visible_share,
            group=name if spec.views > 1 else None, view=view,
            sequence=sequence, frame=frame, stamp=spec.clock,
            load_depth=lambda: again().labels(view).depth,
            load_hand_mask=lambda: again().labels(view).visible,
            load_object_mask=lambda: again().labels(view).things,
            extras={
                "load_amodal_mask": lambda: again().labels(view).amodal,
                "vertex_visibility": labels.vertices_seen,
                "occluder": spec.occluder, "person": spec.person,
                "environment": spec.environment, "thing": spec.thing, **(extras or {}),
            },
        )  # fmt: skip

    @cached_property
    def _environment(self) -> Environment:
        return random_environment(self.spec.environment)

    def _sensor(self, view: int) -> Sensor:
        """The camera of a motion stays itself; only the noise is new in every picture."""
        made = random_sensor(np.random.default_rng([self.spec.seed, view, 11]))
        return replace(made, seed=made.seed + round(1e3 * (self.spec.clock or 0.0)))

    @cached_property
    def _lit(self) -> World:
        from hand_mesh_ros.render import warp_shade

        scene, light, right = self.scene, self._environment, load_hand_model()
        look = scene.person.skin
        skin, paint = warp_shade.Skin(), warp_shade.Paint()
        vector = warp_shade.wp.vec3
        skin.nail, skin.nail_share, skin.mottle = vector(*look.nail), look.nail_share, look.mottle
        skin.bump, skin.freckles, skin.gloss = look.bump, look.freckles, look.gloss
        skin.shift = vector(*look.shift)
        thing, person = scene.thing, scene.person
        paint.cloth_stripes, paint.cloth_second = vector(*person.stripes), vector(*person.stripe)
        paint.cloth_strength = person.striped
        if thing is not None:
            paint.stripes, paint.second = vector(*thing.stripes), vector(*thing.second)
            paint.strength, paint.gloss = thing.striped, thing.gloss
        names = ("points", "normals", "albedo", "rest", "material", "faces")
        return warp_shade.light_scene(
            {name: getattr(scene, name) for name in names}, light.dome(),
            (light.lamp, light.lamp_colour), skin, paint, nails(right), folds(right),
            self.settings.device,
        )  # fmt: skip

    @cached_property
    def _exposure(self) -> float:
        """As a camera chooses it: from the mean light, not the skin, so that tones stay apart."""
        light = self._environment
        directions, colours = light.dome()
        cosine = np.clip(self.scene.normals @ directions.T, 0, None)
        mean = float((cosine @ colours).mean() + 0.25 * light.lamp_colour.mean())
        rng = np.random.default_rng([self.spec.seed, 12])
        return float(rng.uniform(0.75, 1.25)) / max(mean, 1e-3)

    def _behind(self, camera: Camera, view: int) -> NDArray[np.float32]:
        """The background in linear light."""
        spec, size = self.spec, (camera.width, camera.height)
        rng = np.random.default_rng([spec.environment, 71])
        indoors = rng.random() < _ROOMS
        if self.settings.backgrounds is not None:
            rng = np.random.default_rng([spec.seed, view, 13])
            picture = backgrounds.photograph(self.settings.backgrounds, *size, rng)
        elif indoors or spec.views > 1:
            picture = backgrounds.seen_room(camera, spec.environment)
        else:
            picture = backgrounds.clutter(*size, spec.environment, spec.seed)
        table = (to_linear(np.arange(256) / 255) * rng.uniform(0.7, 1.3)).astype(np.float32)
        return np.asarray(table[picture])


@lru_cache(maxsize=4)
def scene_views(spec: SceneSpec, settings: DrawSettings) -> SceneViews:
    """The views of a scene; those of the last few are kept, as several views are asked for."""
    return SceneViews(spec, settings)


def views_of(spec: SceneSpec, settings: DrawSettings | None = None) -> list[HandSample]:
    """The samples of a scene, one a camera."""
    return scene_views(spec, settings or DrawSettings()).samples()


def in_camera(mano: ManoParameters, model: HandModel, camera: Camera) -> ManoParameters:
    """World parameters in the camera's axes: the wrist, about which the hand turns, moves along."""
    T = camera.T_camera_world
    wrist = (model.J_regressor @ (model.v_template + model.shapedirs @ mano.betas))[0]
    orient = log_so3(T[:3, :3] @ exp_so3(mano.global_orient))
    transl = T[:3, :3] @ (wrist + mano.transl) + T[:3, 3] - wrist
    return ManoParameters(mano.model_id, mano.side, orient, mano.hand_pose, mano.betas, transl)


def _box(mask: NDArray[np.bool_], uv: FloatArray) -> FloatArray:
    """Tight box (4,) of the hand's own pixels, or of its joints where it is not in the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.array([*np.nanmin(uv, axis=0), *np.nanmax(uv, axis=0)])
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float64)
