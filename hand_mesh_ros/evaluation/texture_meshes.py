"""Meshes of a backend on renders-v1's instants, to be textured in place of the true ones."""

from __future__ import annotations

from functools import lru_cache

from hand_mesh_ros.evaluation.bench_texture import MeshOf
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.mirror import mirror_points
from hand_mesh_ros.perception.build import build_pipeline
from hand_mesh_ros.perception.pipeline import PipelineSettings
from hand_mesh_ros.perception.surface import with_meshes
from hand_mesh_ros.training.instant_sources import benchmark
from hand_mesh_ros.training.instants import InstantStore, crop_poses
from hand_mesh_ros.types import FloatArray, Frame, FrameSet, HandEstimate

_FIELDS = ("K", "T_camera_world", "crop_matrix", "R_crop_camera", "left")


def rendered_frames(number: int) -> FrameSet:
    """The four views of an instant of renders-v1's test part."""
    return FrameSet(tuple(Frame(s.camera, 0, s.image) for s in benchmark(4)(number)))


def backend_meshes(store: InstantStore, backend: str = "landmarks") -> MeshOf:
    """What a backend makes of the pictures that the store ``test`` was made of, all views at once.

    It has no mesh for views of instants where it found no hand, or one of the other side. Raises
    ValueError for an unknown backend, AssetError if `hand-mesh fetch` has not been run.
    """
    pipeline, models = build_pipeline(
        backend=backend, pipeline=PipelineSettings(max_hands=1)
    )

    @lru_cache(maxsize=4)
    def estimate(instant: int) -> HandEstimate | None:
        pipeline.reset()
        hands = with_meshes(pipeline.process(rendered_frames(instant)), models).hands
        return hands[0].estimate if hands else None

    def mesh_of(instant: int, view: int) -> FloatArray | None:
        found = estimate(instant)
        fields = {name: array[0] for name, array in store.read([instant], _FIELDS).items()}
        left = bool(fields["left"])
        if found is None or found.vertices is None or (found.side == "left") != left:
            return None
        T, _ = crop_poses(fields)
        points = mirror_points(found.vertices) if left else found.vertices
        return transform_points(T[view], points)

    return mesh_of
