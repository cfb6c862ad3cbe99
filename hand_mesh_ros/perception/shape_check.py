"""Whether the hands that are seen are those of the person whose shape is in use."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ENOUGH: Final = 100
"""Hands, seen by two cameras or more, after which there is an answer."""
LIMIT: Final = 1.6
"""Misfit from which on the shape is taken for another person's.

The same person's hands have 0.9 to 1.1 in the seconds between those of the calibration, and up to
1.4 where they do other things; somebody else's bones and landmarks make it 1.5 to 3. A person whom
the network marked poorly while the calibration ran is not told from others.
"""

_LOG = logging.getLogger(__name__)


class ShapeCheck:
    """Compares how far landmarks lie from the fits with what the calibration promised.

    ``promised`` is `HandShape.residual`; NaN (an old file) never complains. One view fits any
    shape, at another distance, and tells nothing: only give hands of two views or more.
    """

    def __init__(self, promised: float, noise: Array) -> None:
        self._promised, self._noise = promised, noise
        self._recent: deque[float] = deque(maxlen=ENOUGH)
        self._complained = False

    def add(self, residual_px: Array, sigma: Array) -> None:
        """A fitted hand: distances (V, 21) px and the sigmas (V, 21) that its views told.

        Warns once in the log when the last `ENOUGH` hands are over the `LIMIT`.
        """
        self._recent.append(float(np.nanmedian(residual_px / (sigma * self._noise))))
        misfit = self.misfit
        if misfit is not None and misfit > LIMIT and not self._complained:
            self._complained = True
            _LOG.warning(
                "the landmarks of the last %d hands lie %.1f times as far from the calibrated "
                "hand as they should: this is another person, or the cameras have moved; "
                "calibrate the shape again",
                ENOUGH,
                misfit,
            )

    @property
    def misfit(self) -> float | None:
        """Median residual of the last hands over the promised one; None before there are enough."""
        if len(self._recent) < ENOUGH or not np.isfinite(self._promised):
            return None
        return float(np.median(self._recent) / self._promised)
