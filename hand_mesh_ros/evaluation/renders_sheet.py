"""A picture of `renders-v1`: rows for what hides hands, for cameras, time and labels."""

from __future__ import annotations

import numpy as np

from hand_mesh_ros.evaluation.renders_v1 import Part, RenderedSamples, Split, entries
from hand_mesh_ros.render.sheet import contact_sheet as sheet
from hand_mesh_ros.render.training_views import DrawSettings, scene_views
from hand_mesh_ros.types import ImageArray

_COLUMNS = 8
_CAPTIONS = {
    "none": "nothing hides the hand", "held": "it holds something",
    "free": "something is before it", "hand": "the other hand is before it",
}  # fmt: skip
_PAINT = np.array([[64, 64, 64], [80, 200, 120], [60, 110, 80], [220, 150, 60], [90, 120, 230]])


def contact_sheet(split: Split = "test") -> ImageArray:
    """The sheet of a split, RGB."""
    single = entries(split, ("single",))
    rows, captions = [], []
    for occluder, caption in _CAPTIONS.items():
        some = [e for e in single if e.spec.occluder == occluder][:_COLUMNS]
        rows.append([s.image for s in RenderedSamples(some)])
        captions.append(caption)
    parts: tuple[tuple[Part, str, int], ...] = (
        ("multi", "instants in four cameras", 1), ("motion", "motion, 1/5 s apart", 3),
    )  # fmt: skip
    for part, caption, step in parts:
        some = entries(split, (part,))[: step * _COLUMNS : step]
        rows.append([s.image for s in RenderedSamples(some)])
        captions.append(caption)
    some = [e for e in single if e.spec.occluder == "held"][:_COLUMNS]
    labels = [scene_views(e.spec, DrawSettings()).labels(e.view) for e in some]
    rows.append([_PAINT[label.owner + 1].astype(np.uint8) for label in labels])
    captions.append("whose a pixel is: the second row's labels")
    return sheet(rows, captions=captions, title=f"renders-v1, {split}", cell_height=160)
