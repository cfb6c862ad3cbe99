"""Writing files as publishers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def save_image(path: Path, image: np.ndarray) -> None:
    """RGB or grey, as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = image[..., ::-1] if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, 97] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), stored, options)


def save_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, default=lambda a: a.tolist()))
