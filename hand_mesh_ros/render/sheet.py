"""Contact sheets: pictures in rows and columns with titles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hand_mesh_ros.types import ImageArray

_PAPER, _INK = 250, (40, 40, 40)
_GAP = 6


def contact_sheet(
    rows: Sequence[Sequence[ImageArray]],
    columns: Sequence[str] = (),
    captions: Sequence[str] = (),
    *,
    title: str = "",
    cell_height: int = 300,
) -> ImageArray:
    """Pictures (H, W, 3) RGB, laid out in ``rows``, as one picture.

    Every picture is scaled to ``cell_height``; each column is as wide as its widest picture.
    ``columns`` are headings of the columns, ``captions`` stand above each row, ``title`` on top.
    Rows may differ in length. Raises ``ValueError`` where there is no picture at all.
    """
    scaled = [[_to_height(image, cell_height) for image in row] for row in rows]
    if not any(scaled):
        raise ValueError("contact_sheet: no pictures to lay out")
    count = max(map(len, scaled))
    widths = [max((r[k].shape[1] for r in scaled if k < len(r)), default=1) for k in range(count)]
    lefts = np.cumsum([_GAP, *(w + _GAP for w in widths)])
    line = max(20, cell_height // 12)

    bands: list[ImageArray] = []
    if title:
        bands.append(_text_band(int(lefts[-1]), round(1.5 * line), [(title, _GAP)]))
    if columns:
        labels = [(name, int(left)) for name, left in zip(columns, lefts, strict=False)]
        bands.append(_text_band(int(lefts[-1]), line, labels))
    for index, row in enumerate(scaled):
        if index < len(captions):
            bands.append(_text_band(int(lefts[-1]), line, [(captions[index], _GAP)]))
        band = np.full((cell_height + _GAP, int(lefts[-1]), 3), _PAPER, dtype=np.uint8)
        for image, left in zip(row, lefts, strict=False):
            band[:cell_height, left : left + image.shape[1]] = image
        bands.append(band)
    return np.concatenate(bands)


def write_image(path: Path, image: ImageArray) -> Path:
    """Write an RGB picture (H, W, 3) to a .png or .jpg file, making its folder; gives ``path``.

    Raises ``OSError`` where it cannot be written.
    """
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix or ".png", np.ascontiguousarray(image[..., ::-1]))
    if not ok:
        raise OSError(f"cannot encode {path}: use a name that ends in .png or .jpg")
    path.write_bytes(data.tobytes())
    return path


def _to_height(image: ImageArray, height: int) -> ImageArray:
    import cv2

    factor = height / image.shape[0]
    size = max(1, round(image.shape[1] * factor)), height
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def _text_band(width: int, height: int, labels: Sequence[tuple[str, int]]) -> ImageArray:
    import cv2

    band = np.full((height, width, 3), _PAPER, dtype=np.uint8)
    scale, weight = height / 36, max(1, height // 22)
    for text, left in labels:
        place = (left, round(0.72 * height)), cv2.FONT_HERSHEY_SIMPLEX, scale
        cv2.putText(band, text, *place, _INK, weight, cv2.LINE_AA)
    return band
