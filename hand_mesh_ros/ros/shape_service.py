"""~/calibrate_shape: gather hands from the running pipeline, then know the person's shape.

The service answers when gathering has begun. The node's worker hands over every result; when there
are enough, or time is up, a thread of its own calibrates, writes the file and puts the shape to
use. Neither the executor nor the worker waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import palm_length
from hand_mesh_ros.hand.shape_fusion import FEWEST
from hand_mesh_ros.perception.pipeline import HandPipeline
from hand_mesh_ros.perception.shape_calibration import CalibrationSettings, ShapeCollector
from hand_mesh_ros.types import HandSet, Side


class Log(Protocol):
    """The part of a node's logger that is used here."""

    def info(self, message: str) -> Any: ...

    def error(self, message: str) -> Any: ...


class ShapeCalibration:
    """One calibration at a time for one pipeline; made when the node is configured."""

    def __init__(
        self, pipeline: HandPipeline, models: Mapping[Side, HandModel], path: Path, log: Log
    ) -> None:
        self._pipeline, self._models, self._path, self._log = pipeline, models, path, log
        self._lock = threading.Lock()
        self._collector: ShapeCollector | None = None
        self._deadline = 0.0
        self._thread: threading.Thread | None = None

    def begin(self, frames: int, timeout: float) -> tuple[bool, str]:
        """Start to gather; whether it did, and what is going on."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False, "a calibration is being computed: try again in a few seconds"
            if self._collector is not None:
                count = len(self._collector.sightings)
                return False, f"already gathering: {count} of {self._collector.settings.hands}"
            self._collector = ShapeCollector(CalibrationSettings(hands=frames))
            self._deadline = time.monotonic() + timeout
        return True, (
            f"gathering {frames} hands seen by two cameras or more, for {timeout:g} s at most: "
            f"move the hand and its fingers; the result is logged and goes to {self._path}"
        )

    def add(self, hands: HandSet) -> None:
        """The worker's newest result."""
        with self._lock:
            if self._collector is not None:
                self._collector.add(hands)
        self.check()

    def check(self) -> None:
        """Begin to compute where there is enough, or time is up; called now and then."""
        with self._lock:
            collector = self._collector
            if collector is None:
                return
            if not collector.full and time.monotonic() < self._deadline:
                return
            self._collector = None
            count = len(collector.sightings)
            if count < FEWEST:
                self._log.error(
                    f"calibrate_shape: {count} hands in time, at least {FEWEST} are needed: show a "
                    "hand to two cameras or more and call ~/calibrate_shape again"
                )
                return
            self._thread = threading.Thread(
                target=self._compute, args=(collector,), name="calibrate_shape", daemon=True
            )
            self._thread.start()

    def cancel(self) -> None:
        """Forget what was gathered (the node is deactivated); wait for what is being computed."""
        with self._lock:
            if self._collector is not None:
                self._log.info("calibrate_shape: cancelled, the node stops")
            self._collector = None
            thread = self._thread
        if thread is not None:
            thread.join(10.0)

    def _compute(self, collector: ShapeCollector) -> None:
        try:
            shape = collector.calibrate(self._models)
            shape.save(self._path)
            self._pipeline.use_shape(shape)
        except (ValueError, OSError) as error:
            self._log.error(f"calibrate_shape: {error}")
            return
        length, sigma = palm_length(self._models["right"], shape.betas, shape.covariance)
        self._log.info(
            f"calibrate_shape: wrist to middle knuckle {1e3 * length:.1f} +- {1e3 * sigma:.1f} mm "
            f"from {shape.hands} hands (worth {shape.effective:.0f} independent ones); written to "
            f"{self._path} and in use"
        )
