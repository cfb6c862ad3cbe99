"""Hand models from files: our .npz, MANO's pickles, MANO's buffers inside a checkpoint.

Every file becomes a mapping of plain arrays under MANO's names or ours; one function makes the
model of it, and finds out which hand it is.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.layout import NUM_BETAS, PARENTS, TIP_SETS
from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import FREE_HAND, FloatArray, HandModel, IntArray, Side
from hand_mesh_ros.hand.stand_ins import RefusedPickleError, plain
from hand_mesh_ros.hand.unpickle import load_pickle

Arrays = Mapping[str, NDArray[Any]]

MANO_VERTICES: Final = 778
WHERE: Final = (
    "MANO's files are to be had at https://mano.is.tue.mpg.de after registration, under MANO's own "
    "licence (research only; commercial use by agreement); without one, the free hand that ships "
    "with this package is used"
)

# Names by which a file may call each array, this package's first.
_NAMES: Final = {
    "v_template": ("v_template",),
    "shapedirs": ("shapedirs",),
    "posedirs": ("posedirs",),
    "J_regressor": ("J_regressor",),
    "lbs_weights": ("lbs_weights", "weights"),
    "parents": ("parents", "kintree_table"),
    "faces": ("faces", "faces_tensor", "f"),
}
_OPTIONAL: Final = {
    "tips": ("tips", "extra_joints_idxs"),
    "uv": ("uv",),
    "uv_faces": ("uv_faces",),
    "albedo": ("albedo",),
    "shape_std": ("shape_std",),
    "hands_mean": ("hands_mean", "hand_mean"),
    "hands_components": ("hands_components", "hand_components"),
}
_WANTED: Final = (
    "expected v_template (V, 3), shapedirs (V, 3, 10), posedirs, J_regressor (16, V), lbs_weights "
    "or weights (V, 16), parents (16) or kintree_table, and faces or f (F, 3)"
)
_CHECKPOINTS: Final = (".ckpt", ".pt", ".pth")
_log = logging.getLogger(__name__)


def load_cached(path: Path, side: Side, tips: str | None) -> HandModel:
    """`load_hand_model` behind its defaults; a file that changed is read again."""
    if not path.is_file():
        hint = "run `hand-mesh model build` to make it" if path == FREE_HAND else WHERE
        raise FileNotFoundError(f"no hand model at {path}; {hint}")
    status = path.stat()
    return _load(path, side, tips, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=8)
def _load(path: Path, side: Side, tips: str | None, _: tuple[int, int]) -> HandModel:
    try:
        arrays = _read(path)
        model = _to_model(path, arrays, tips)
    except ValueError as error:
        text = str(error)
        subject = "" if text.startswith(f"{path}") else f"{path}: "
        kind = RefusedPickleError if isinstance(error, RefusedPickleError) else ValueError
        raise kind(f"hand model {subject}{text}; {WHERE}") from error
    if model.side == side:
        return model
    if path != FREE_HAND:
        _log.warning("%s holds a %s hand; mirrored into a %s one", path, model.side, side)
    return mirror_model(model)


def _read(path: Path) -> Arrays:
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".pkl":
        return _read_pickle(path)
    if path.suffix in _CHECKPOINTS:
        return _read_checkpoint(path)
    raise ValueError(
        f"'{path.suffix}' is not a known kind of file; expected MANO_RIGHT.pkl or MANO_LEFT.pkl "
        f"as downloaded, an .npz, or a checkpoint ({', '.join(_CHECKPOINTS)}) with MANO inside"
    )


def _read_npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"it is no .npz archive ({error})") from error


def _read_pickle(path: Path) -> Arrays:
    with path.open("rb") as file:
        if file.peek(1)[:1] == b"<":
            raise ValueError("it is a web page: the download stopped at the registration form")
        content = load_pickle(file)
    if not isinstance(content, dict):
        raise RefusedPickleError(f"it holds a {type(content).__name__}; {_WANTED}")
    names = {name for group in (_NAMES, _OPTIONAL) for each in group.values() for name in each}
    arrays = {}
    for name in names & {key for key in content if isinstance(key, str)}:
        try:
            arrays[name] = plain(content[name])
        except RefusedPickleError as error:
            raise RefusedPickleError(f"'{name}': {error}") from error
    return arrays


def _read_checkpoint(path: Path) -> Arrays:
    from hand_mesh_ros.hand.checkpoints import read_checkpoint

    arrays = read_checkpoint(path, prefix="mano.")
    if not arrays:
        raise ValueError("this checkpoint holds no MANO buffers ('mano.v_template', ...)")
    return arrays


def _to_model(path: Path, arrays: Arrays, tips: str | None) -> HandModel:
    found = {
        field: arrays[name]
        for field, names in {**_NAMES, **_OPTIONAL}.items()
        for name in names[::-1]
        if name in arrays
    }
    missing = [names[-1] for field, names in _NAMES.items() if field not in found]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing; {_WANTED}")
    fields: dict[str, Any] = {
        key: array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)
        for key, array in found.items()
    }
    flat = [key for key in _NAMES if found[key].ndim == 0]
    if flat:
        raise ValueError(f"{', '.join(flat)}: a single number; {_WANTED}")
    vertices = len(fields["v_template"])
    fields["parents"] = _parents(fields["parents"])
    fields["posedirs"] = _posedirs(fields["posedirs"], vertices)
    fields["shapedirs"] = _shapedirs(fields["shapedirs"])
    fields["tips"] = _tips(fields.get("tips"), vertices, tips)
    model = HandModel(**fields, side="right", model_id=path.name)
    side = _side(path, arrays, model)
    return replace(model, side=side, model_id=str(arrays.get("model_id", f"mano_{side}")))


def _parents(parents: IntArray) -> IntArray:
    """Of `kintree_table` (2, 16) the first row, whose root is -1 written without a sign."""
    parents = parents[0] if parents.ndim == 2 else parents
    return np.where((parents < 0) | (parents >= len(PARENTS)), -1, parents)


def _posedirs(posedirs: FloatArray, vertices: int) -> FloatArray:
    """MANO's files have (V, 3, 135), smplx and its checkpoints (135, 3 V)."""
    if posedirs.ndim == 3 and posedirs.shape[:2] == (vertices, 3):
        return np.ascontiguousarray(posedirs.reshape(3 * vertices, -1).T)
    return posedirs


def _shapedirs(shapedirs: FloatArray) -> FloatArray:
    return np.ascontiguousarray(shapedirs[..., :NUM_BETAS]) if shapedirs.ndim == 3 else shapedirs


def _tips(own: IntArray | None, vertices: int, name: str | None) -> IntArray:
    if name is None and own is not None:
        return own
    if name is not None and name not in TIP_SETS:
        raise ValueError(f"fingertip set '{name}' is unknown; choose one of {', '.join(TIP_SETS)}")
    if vertices != MANO_VERTICES:
        raise ValueError(
            f"its mesh has {vertices} vertices, and the named fingertip sets are for MANO's "
            f"{MANO_VERTICES}; store the five fingertip vertices as 'tips' and leave the name out"
        )
    return np.array(TIP_SETS[name or "mano"])


def _geometric_side(model: HandModel) -> Side | None:
    """Which hand lies in the canonical placement: a right one has its fingers along -x.

    None where the fingers do not lie along x, so that nothing can be said.
    """
    joints = model.J_regressor @ model.v_template
    fingers = joints[[3, 6, 9, 12]].mean(0) - joints[0]
    if abs(fingers[0]) < 0.7 * np.linalg.norm(fingers):
        return None
    return "right" if fingers[0] < 0 else "left"


def _side(path: Path, arrays: Arrays, model: HandModel) -> Side:
    """The side that a file states or its name says, if its fingers agree; else what they say."""
    if path.suffix in _CHECKPOINTS:
        return "right"  # networks of this family see mirrored left hands: they only know right ones
    stem = path.stem.lower()
    stated = str(arrays["side"]) if "side" in arrays else ""
    geometric = _geometric_side(model)
    sides: tuple[Side, Side] = ("right", "left")
    claims = [side for side in sides if side == stated or (not stated and stem.endswith(side))]
    if stated and not claims:
        raise ValueError(f"side '{stated}' is unknown; expected 'right' or 'left'")
    for claim in claims:
        if geometric not in (None, claim):
            raise ValueError(
                f"its {'side' if stated else 'name'} says {claim}, but its fingers point along "
                f"{'+x' if claim == 'right' else '-x'} from the wrist, as a {geometric} hand's do; "
                f"use the file of the {claim} hand"
            )
        return claim
    return geometric or "right"
