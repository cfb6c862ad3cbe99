"""~/calibrate_cell: gather hands from the running pipeline, then find out where the cameras stand.

Works as ~/calibrate_shape does: the service answers when gathering has begun, the worker hands over
every result, a thread of its own computes. What comes out is a report and a cell file on disk; what
the node uses stays as it is until somebody takes it over, because robots rely on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from hand_mesh_ros.evaluation.cell_report import differences, sigmas, write
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception.cell_calibration import (
    CellCalibration,
    CellSettings,
    calibrate_cell,
)
from hand_mesh_ros.perception.cell_views import gather, views_of
from hand_mesh_ros.ros.shape_service import Log
from hand_mesh_ros.types import Camera, HandSet, Side, View


class CellService:
    """One calibration at a time; made when the node is configured.

    ``folder`` is where the results go; ``shape`` gives the shape in use when it is needed, if there
    is one.
    """

    def __init__(
        self,
        models: Mapping[Side, HandModel],
        shape: Callable[[], HandShape | None],
        folder: Path,
        log: Log,
        settings: CellSettings | None = None,
    ) -> None:
        self._models, self._shape, self._folder, self._log = models, shape, folder, log
        self._settings = settings or CellSettings()
        self._lock = threading.Lock()
        self._gathered: list[tuple[int, tuple[View, ...]]] | None = None
        self._wanted, self._deadline = 0, 0.0
        self._thread: threading.Thread | None = None

    def begin(self, sets: int, timeout: float) -> tuple[bool, str]:
        """Start to gather ``sets`` frame sets in which two cameras saw hands; what is going on."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False, "a calibration is being computed: try again in a minute"
            if self._gathered is not None:
                return False, f"already gathering: {len(self._gathered)} of {self._wanted}"
            self._gathered, self._wanted = [], sets
            self._deadline = time.monotonic() + timeout
        return True, (
            f"gathering {sets} frame sets with hands before two cameras or more, for {timeout:g} s "
            "at most: move your hands through all that the cameras see; the result is logged and "
            f"goes to {self._folder}"
        )

    def add(self, hands: HandSet) -> None:
        """The worker's newest result."""
        with self._lock:
            if self._gathered is not None:
                ((stamp_ns, views),) = views_of([hands])
                if len({v.camera.name for v in views}) > 1:
                    # Without the pictures, of which a minute would fill the memory.
                    kept = tuple(replace(v, frame=None) for v in views)
                    self._gathered.append((stamp_ns, kept))
        self.check()

    def check(self) -> None:
        """Begin to compute where there is enough, or time is up; called now and then."""
        with self._lock:
            gathered = self._gathered
            if gathered is None:
                return
            if len(gathered) < self._wanted and time.monotonic() < self._deadline:
                return
            self._gathered = None
            if not gathered:
                self._log.error(
                    "calibrate_cell: no hand was seen by two cameras at once in time: show one "
                    "and call ~/calibrate_cell again"
                )
                return
            self._thread = threading.Thread(
                target=self._compute, args=(gathered,), name="calibrate_cell", daemon=True
            )
            self._thread.start()

    def cancel(self) -> None:
        """Forget what was gathered (the node is deactivated); wait for what is being computed."""
        with self._lock:
            if self._gathered is not None:
                self._log.info("calibrate_cell: cancelled, the node stops")
            self._gathered = None
            thread = self._thread
        if thread is not None:
            thread.join(30.0)

    def _compute(self, gathered: list[tuple[int, tuple[View, ...]]]) -> None:
        try:
            # The newest word about each camera counts.
            cameras = {v.camera.name: v.camera for _, views in gathered for v in views}
            given = [cameras[name] for name in sorted(cameras)]
            views = gather(gathered, [c.name for c in given])
            found = calibrate_cell(views, given, self._models, self._shape(), self._settings)
            write(found, None if found.from_nothing else given, self._folder)
        except (ValueError, OSError, np.linalg.LinAlgError) as error:
            self._log.error(f"calibrate_cell: {error}")
            return
        self._log.info(f"calibrate_cell: {_summary(found, given)}; see {self._folder}/cell.png")


def _summary(found: CellCalibration, given: list[Camera]) -> str:
    """A line for the log."""
    position, heading = sigmas(found)
    parts = []
    apart = None if found.from_nothing else differences(found.cameras, given, align=False)
    for i, camera in enumerate(found.cameras):
        text = f"{camera.name} +- {100 * position[i]:.1f} cm, +- {heading[i]:.2f} deg"
        if apart is not None:
            text += f" (off by {apart[1][i]:.1f} cm, {apart[0][i]:.2f} deg)"
        parts.append(text)
    return f"scale from {found.scale.source}; {'; '.join(parts)}"
