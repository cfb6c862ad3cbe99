"""Where labelled hands come from on demand: a number in, a sample out, always the same.

A source is a function (split, **options) that gives a function of a seed. It is registered as
"module:function", so that naming one imports no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.conventions import move_hand
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.types import FrameSet, HandEstimate, ManoParameters

if TYPE_CHECKING:
    from hand_mesh_ros.render.scenes import SceneSpec
    from hand_mesh_ros.render.training_views import DrawSettings

Split = Literal["train", "validation"]
SampleOf = Callable[[int], HandSample]

SOURCES: dict[str, str] = {
    "renders": "hand_mesh_ros.training.sources:renders",
    "cell": "hand_mesh_ros.training.sources:cell",
    "dataset": "hand_mesh_ros.training.dataset_source:dataset",
    "mixture": "hand_mesh_ros.training.mixture_source:mixture",
    "hamer_tars": "hand_mesh_ros.training.tar_source:hamer_tars",
}


def open_source(name: str, split: Split, options: Mapping[str, Any]) -> SampleOf:
    """The function that makes samples of a source; `split` keeps people and places apart.

    Raises ValueError for an unknown name or option.
    """
    where = SOURCES.get(name, name)
    module, colon, function = where.partition(":")
    if not colon:
        raise ValueError(f"unknown source {name!r}: choose one of {', '.join(SOURCES)}")
    make: Callable[..., SampleOf] = getattr(import_module(module), function)
    try:
        return make(split, **options)
    except TypeError as error:
        raise ValueError(f"source {name!r}: {error}") from error


# Persons, environments and things of the splits, as numbers of their own. Those under 10,000 are
# the benchmarks': `renders-v1` is not trained for, in none of its splits.
_WORLDS: dict[Split, range] = {
    "train": range(10_000, 400_000),
    "validation": range(500_000, 600_000),
}
_OCCLUDERS: Mapping[str, float] = {"none": 0.35, "held": 0.35, "free": 0.15, "hand": 0.15}


def renders(
    split: Split,
    *,
    size: int = 256,
    occluders: Mapping[str, float] = _OCCLUDERS,
    backgrounds: str | None = None,
    device: str = "cpu",
) -> SampleOf:
    """Hands of the training renderer, one camera each, left and right alike.

    Every seed has its own pose and view, and its person, environment and thing are drawn from the
    split's own. `size` of the picture in pixels; `occluders` are shares of none, held, free and
    hand; `backgrounds` a folder of images; `device` is Warp's name of it.
    """

    def sample(seed: int) -> HandSample:
        from hand_mesh_ros.render.training_views import views_of

        spec, settings = render_spec(
            split, seed, size=size, occluders=occluders, backgrounds=backgrounds, device=device
        )
        (made,) = views_of(spec, settings)
        return replace(made, split=split, name=f"{split}/{seed:08d}", index=seed)

    occluder_bounds(occluders)  # what is wrong is said at once, not in a worker
    return sample


def render_spec(
    split: Split,
    seed: int,
    *,
    views: int = 1,
    size: int = 256,
    occluders: Mapping[str, float] = _OCCLUDERS,
    backgrounds: str | None = None,
    device: str = "cpu",
) -> tuple[SceneSpec, DrawSettings]:
    """The scene of a seed and how it is drawn; arguments as `renders`'."""
    from hand_mesh_ros.render.scenes import SceneSpec
    from hand_mesh_ros.render.training_views import DrawSettings

    kinds, bounds, worlds = list(occluders), occluder_bounds(occluders), _WORLDS[split]
    rng = np.random.default_rng([worlds.start, seed])
    person, environment, thing = rng.integers(worlds.start, worlds.stop, 3).tolist()
    kind: Any = kinds[min(int(np.searchsorted(bounds, rng.random())), len(kinds) - 1)]
    side: Any = ("right", "left")[int(rng.integers(2))]
    number = int(rng.integers(2**31))
    spec = SceneSpec(
        number, person, environment, thing, kind, side, views=views, width=size, height=size
    )
    return spec, DrawSettings(None if backgrounds is None else Path(backgrounds), device)


def occluder_bounds(occluders: Mapping[str, float]) -> np.ndarray:
    """Cumulative shares; ValueError for unknown kinds or shares that are none."""
    shares = np.array(list(occluders.values()), dtype=np.float64)
    if set(occluders) - set(_OCCLUDERS) or not shares.sum() > 0 or (shares < 0).any():
        raise ValueError(
            f"source 'renders': occluders are shares of {', '.join(_OCCLUDERS)}, not {occluders}"
        )
    return np.cumsum(shares / shares.sum())


def cell(split: Split, *, width: int = 320, height: int = 240, frames: int = 8) -> SampleOf:
    """Hands of the synthetic cell (`render.synthetic`), one camera, one hand an image.

    A person, light and room last for `frames` seeds; those of the two splits are different.
    """
    people = {"train": 0, "validation": 500_000}[split]

    def sample(seed: int) -> HandSample:
        person, number = divmod(seed, frames)
        images, truth = _cell(people + person, width, height, frames)
        camera = images(number).frames[0].camera
        hand = truth(number)
        joints = transform_points(camera.T_camera_world, hand.joints)
        return HandSample(
            dataset="cell",
            split=split,
            name=f"{split}/{seed:08d}",
            index=seed,
            camera=camera,
            side=hand.side,
            source=Path(),
            load_image=lambda: images(number).frames[0].image,
            joints=joints,
            uv=project(camera, hand.joints),
            visibility=None,
            mano=_in_camera(hand.mano, camera.T_camera_world),
            group=f"{split}/{seed:08d}",
            view=0,
        )

    return sample


@lru_cache(maxsize=2)
def _cell(
    person: int, width: int, height: int, frames: int
) -> tuple[Callable[[int], FrameSet], Callable[[int], HandEstimate]]:
    from hand_mesh_ros.render.synthetic import SyntheticCell

    side: Any = ("right", "left")[person % 2]
    made = SyntheticCell(1, (side,), frames * 0.9, 1 / 0.9, person, width, height)
    return lru_cache(maxsize=1)(made.frame_set), lambda number: made.ground_truth(number)[0]


def _in_camera(mano: ManoParameters, T: np.ndarray) -> ManoParameters:
    model = load_hand_model(side=mano.side)
    moved = move_hand(model, T[:3, :3], T[:3, 3], mano.global_orient, mano.betas, mano.transl)
    return ManoParameters(
        mano.model_id, mano.side, moved.global_orient, mano.hand_pose, mano.betas, moved.transl
    )
