"""From settings to a running pipeline: the one place that puts the stages together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.hand.shape import load_shape
from hand_mesh_ros.networks.landmarks import HandLandmarker
from hand_mesh_ros.networks.palm import PalmDetector
from hand_mesh_ros.perception.estimate import (
    Backend,
    NeedsImages,
    NetworkOptions,
    create_backend,
)
from hand_mesh_ros.perception.observe import LandmarkObserver, ObserveSettings
from hand_mesh_ros.perception.observe_remote import RemoteObserver
from hand_mesh_ros.perception.pipeline import HandPipeline, HasModels, PipelineSettings
from hand_mesh_ros.types import Side


def build_observer(
    *,
    runtime: Any = "litert",
    device: str = "cpu",
    num_threads: int = 2,
    max_hands: int = 2,
    settings: ObserveSettings | None = None,
) -> LandmarkObserver:
    """Load the networks that find hands in images, at most ``max_hands`` in each.

    Raises what the networks raise: a missing file, a runtime or device that is not there.
    """
    return LandmarkObserver(
        PalmDetector(runtime, device, num_threads=num_threads, hands=max_hands),
        HandLandmarker(runtime, device, num_threads=num_threads),
        settings or ObserveSettings(),
    )


def build_backend(
    name: str, hand_model: Path | None = None, network: NetworkOptions | None = None
) -> tuple[Backend, dict[Side, HandModel]]:
    """A backend and the hand models of both sides that it estimates.

    With a checkpoint and without ``hand_model``, they are those that the checkpoint's network was
    trained with. Raises what `create_backend` and `load_hand_model` raise.
    """
    if hand_model is None and network is not None and network.checkpoint is not None:
        made = create_backend(name, None, network)
        if isinstance(made, HasModels):
            return made, dict(made.models)
    right = load_hand_model(hand_model)
    models: dict[Side, HandModel] = {"right": right, "left": mirror_model(right)}
    return create_backend(name, models, network), models


def build_pipeline(
    *,
    backend: str = "landmarks",
    network: NetworkOptions | None = None,
    hand_model: Path | None = None,
    runtime: Any = "litert",
    device: str = "cpu",
    num_threads: int = 2,
    observe: ObserveSettings | None = None,
    pipeline: PipelineSettings | None = None,
    shape: Path | None = None,
    images: bool = True,
) -> tuple[HandPipeline, dict[Side, HandModel]]:
    """Load networks and hand model; returns the pipeline and the models of both sides.

    ``shape``: file of a calibrated hand shape (`hand.shape.load_shape`) that all hands have.
    ``images``: False where all frames bring their views from edge nodes; no network is loaded.
    Raises what the parts raise: a missing network file, a hand model that is none, an unknown
    backend; each names itself. ValueError for a backend that needs images where there are none.
    """
    pipeline = pipeline or PipelineSettings()
    network = replace(network or NetworkOptions(), num_threads=num_threads)
    made_backend, models = build_backend(backend, hand_model, network)
    if not images and isinstance(made_backend, NeedsImages) and made_backend.needs_images:
        raise ValueError(
            f"backend {backend!r} looks at images, and all cameras bring observations of edge "
            "nodes: choose the backend 'landmarks', or bring the images here"
        )
    local = None
    if images:
        local = build_observer(
            runtime=runtime,
            device=device,
            num_threads=num_threads,
            max_hands=pipeline.max_hands,
            settings=observe,
        )
    made = HandPipeline(RemoteObserver(local), made_backend, pipeline)
    if shape is not None:
        made.use_shape(load_shape(shape, models["right"].model_id))
    return made, models
