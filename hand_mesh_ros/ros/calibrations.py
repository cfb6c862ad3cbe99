"""What a running node finds out about its person and its cell, beside its work.

The person's shape and the cameras' places, both on request; which camera has moved, all the time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape, load_shape
from hand_mesh_ros.networks.assets import home
from hand_mesh_ros.perception.cell_calibration import CellSettings
from hand_mesh_ros.perception.drift import CameraDrift, DriftMonitor
from hand_mesh_ros.perception.pipeline import HandPipeline
from hand_mesh_ros.perception.shape_check import LIMIT
from hand_mesh_ros.ros.cell_service import CellService
from hand_mesh_ros.ros.settings import LiveSettings, NodeSettings
from hand_mesh_ros.ros.shape_service import ShapeCalibration
from hand_mesh_ros.types import HandSet, Side


class Calibrations:
    """Gets every result from the worker (`add`), and asks for the time now and then (`check`)."""

    def __init__(
        self,
        settings: NodeSettings,
        pipeline: HandPipeline,
        models: Mapping[Side, HandModel],
        log: Any,
    ) -> None:
        known = Path(settings.shape_file).expanduser() if settings.shape_file else None
        names = tuple(camera.name for camera in settings.cameras)
        self._pipeline = pipeline
        self._shape = ShapeCalibration(pipeline, models, known or home() / "shape.json", log)
        self._cell = CellService(
            models,
            lambda: _shape(known, models["right"].model_id),
            home() / "cell",
            log,
            CellSettings(frame=settings.output_frame),
        )
        self._several = len(names) > 1
        self._drift = DriftMonitor(names)
        self._lock = threading.Lock()

    def begin_shape(self, live: LiveSettings) -> tuple[bool, str]:
        """~/calibrate_shape: whether it has begun, and what is going on."""
        return self._shape.begin(live.calibration_frames, live.calibration_timeout)

    def begin_cell(self, live: LiveSettings) -> tuple[bool, str]:
        """~/calibrate_cell: whether it has begun, and what is going on."""
        if not self._several:
            return False, "one camera is no cell: calibrate_cell needs two or more"
        return self._cell.begin(live.cell_sets, live.cell_timeout)

    def add(self, hands: HandSet) -> None:
        """The worker's newest result."""
        self._shape.add(hands)
        self._cell.add(hands)
        if self._several:
            with self._lock:
                self._drift.update(hands)

    def check(self) -> None:
        """Time passes without frames as well."""
        self._shape.check()
        self._cell.check()

    def cancel(self) -> None:
        """Forget what was gathered: no more frames come."""
        self._shape.cancel()
        self._cell.cancel()

    def moved(self) -> dict[str, str]:
        """Cameras that are no longer where their calibration says, and by how much, in words."""
        with self._lock:
            return {drift.camera: _moved_by(drift) for drift in self._drift.report() if drift.moved}

    def other_person(self) -> str:
        """That hands do not fit the calibrated shape, in words; '' if they do, or without one."""
        misfit = self._pipeline.shape_misfit
        if misfit is None or misfit <= LIMIT:
            return ""
        return (
            f"hands fit the calibrated shape {misfit:.1f} times worse than they should: is "
            "this another person? ~/calibrate_shape measures whoever is there"
        )


def _moved_by(drift: CameraDrift) -> str:
    others = f", or {' or '.join(drift.alike)} has" if drift.alike else ""
    return (
        f"moved by about {drift.degrees:.1f} degrees and {100 * drift.metres:.1f} cm{others}: "
        "calibrate the cell again"
    )


def _shape(path: Path | None, model_id: str) -> HandShape | None:
    return load_shape(path, model_id) if path is not None and path.is_file() else None
