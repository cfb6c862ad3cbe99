"""What AMVUR's sigmas are worth: temperatures, measured on hands that it was not trained on.

They are kept with the weights, as tensors of the network: whoever has one has the other.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor, nn

Array = NDArray[np.float64]

LEVEL: Final = np.array([0] + 5 * [1, 2, 3, 4])
"""Group (21,) of each joint: wrist, then roots, middle joints, last joints and tips of fingers."""
LEVELS: Final = 5
_SHARES: Final = (0.68, 0.95)
_SAY: Final = (0.7, 0.3)  # of either share in a temperature: by it both hold on `validation`
_FEWEST: Final = 30
_WRIST_SIGMA = 1e-3  # m: the joints are relative to it


class Calibrated(NamedTuple):
    """What may be believed of N hands: covariance (N, 21, 3, 3) m^2 relative to the wrist, whose

    own is a millimetre's; uv_sigma (N, 21) in half-widths of the crop; visible (N, 21) as
    probabilities.
    """

    covariance: Tensor
    uv_sigma: Tensor
    visible: Tensor


class Calibration(nn.Module):
    """Factors of sigmas: `joints` and `places` (2, 5) for joints that are hidden and seen, a row

    each, by `LEVEL`; `common`, one sigma in metres of what all views of a hand get wrong alike.
    """

    joints: Tensor
    places: Tensor
    common: Tensor
    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("joints", torch.ones(2, LEVELS))
        self.register_buffer("places", torch.ones(2, LEVELS))
        self.register_buffer("common", torch.tensor(0.0))
        self.register_buffer("level", torch.tensor(LEVEL), persistent=False)

    def forward(self, covariance: Tensor, uv_log_sigma: Tensor, visible: Tensor) -> Calibrated:
        """covariance (N, 20, 3, 3) of the joints beyond the wrist; visible (N, 21) logits."""
        seen = (visible > 0).long()
        factor = self.factors(visible)[:, 1:, None, None]
        wrist = _WRIST_SIGMA**2 * torch.eye(3).to(covariance).expand(len(covariance), 1, 3, 3)
        return Calibrated(
            covariance=torch.cat([wrist, factor.square() * covariance], dim=1),
            uv_sigma=self.places[seen, self.level] * uv_log_sigma.exp(),
            visible=visible.sigmoid(),
        )

    def factors(self, visible: Tensor) -> Tensor:
        """Of the joints' sigmas (N, 21), hidden or seen by the logits ``visible`` (N, 21)."""
        return torch.as_tensor(self.joints[(visible > 0).long(), self.level])

    def together(self, covariance: Tensor, visible: Tensor) -> Tensor:
        """(N, 21, 3, 21, 3) m^2 of all joints, from the (N, 60, 60) of those beyond the wrist."""
        factor = self.factors(visible)[:, 1:].repeat_interleave(3, dim=1)
        scaled = factor[:, :, None] * covariance * factor[:, None]
        whole = nn.functional.pad(scaled, (3, 0, 3, 0))
        wrist = torch.arange(3)
        whole[:, wrist, wrist] = _WRIST_SIGMA**2
        return whole.unflatten(2, (21, 3)).unflatten(1, (21, 3))

    @property
    def id(self) -> str:
        """Names these very numbers; "none" before anything was measured."""
        numbers = torch.cat([self.joints.flatten(), self.places.flatten(), self.common[None]])
        if bool((numbers[:-1] == 1).all()):
            return "none"
        content = numbers.half().cpu().numpy().tobytes()
        return f"amvur-{hashlib.sha256(content).hexdigest()[:10]}"


def temperature(squared: Array, axes: int) -> float:
    """The factor of sigma by which squared Mahalanobis distances (M,) become chi-squared's.

    `axes`: numbers that each is a sum of. Between what 68 % and 95 % of them ask for: errors have
    longer tails than a Gaussian, so both cannot be right.
    """
    squared = squared[np.isfinite(squared)]
    asked = np.quantile(squared, _SHARES) / chi2.ppf(_SHARES, axes)
    return float(np.sqrt(np.exp(np.log(np.maximum(asked, 1e-12)) @ _SAY)))


def temperatures(squared: Array, seen: NDArray[np.bool_], axes: int) -> Array:
    """Factors (2, 5) from squared distances (N, 21), NaN where unknown, of joints hidden or seen.

    A group of fewer than 30 has its level's factor, or 1 where that has as few.
    """
    found = np.ones((2, LEVELS))
    known = np.asarray(np.isfinite(squared))
    for level in range(LEVELS):
        members = np.broadcast_to(LEVEL == level, squared.shape) & known
        for row, sort in enumerate((~seen, seen)):
            here = squared[members & sort]
            if len(here) < _FEWEST:
                here = squared[members]
            if len(here) >= _FEWEST:
                found[row, level] = temperature(here, axes)
    return found
