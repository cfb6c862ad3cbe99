"""One set of formulas for NumPy arrays and torch tensors.

Functions that say *NumPy or torch* in their docstring compute in the namespace, the precision and
on the device of what they are given. ``array-api-compat`` gives both the names of the Python
array API standard.
"""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as compat_numpy
import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as _device

AnyArray = Any
"""A NumPy array or a torch tensor."""

# NumPy 2.1 has the standard's names itself; a hand is small enough for the wrappers to count.
_NUMPY: Any = np if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else compat_numpy

__all__ = ["AnyArray", "eye", "inverse_spd", "like", "namespace", "solve_spd", "zeros"]


def namespace(array: AnyArray) -> Any:
    """The array API's functions for this array."""
    return _NUMPY if type(array) is np.ndarray else array_namespace(array)


def zeros(shape: tuple[int, ...], reference: AnyArray) -> AnyArray:
    """Zeros of the precision and on the device of ``reference``."""
    if type(reference) is np.ndarray:
        return np.zeros(shape, reference.dtype)
    xp = namespace(reference)
    return xp.zeros(shape, dtype=reference.dtype, device=_device(reference))


def eye(size: int, reference: AnyArray) -> AnyArray:
    """The identity (size, size) of the precision and on the device of ``reference``."""
    return namespace(reference).eye(size, dtype=reference.dtype, device=_device(reference))


def like(values: Any, reference: AnyArray) -> AnyArray:
    """Constant NumPy values as an array of the kind of ``reference``; booleans stay booleans."""
    xp = namespace(reference)
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch warns of arrays that it could write to but must not
    if str(getattr(values, "dtype", "")).endswith("bool"):
        return xp.asarray(values, device=_device(reference))
    return xp.asarray(values, dtype=reference.dtype, device=_device(reference))


def solve_spd(matrices: AnyArray, vectors: AnyArray) -> AnyArray:
    """Solutions (B, n) with positive definite matrices (B, n, n) and vectors (B, n)."""
    if not isinstance(matrices, np.ndarray):
        import torch

        factor, failed = torch.linalg.cholesky_ex(matrices)
        if not bool(failed.any()):
            return torch.cholesky_solve(vectors[..., None], factor)[..., 0]
    return namespace(matrices).linalg.solve(matrices, vectors[..., None])[..., 0]


def inverse_spd(matrices: AnyArray) -> AnyArray:
    """Inverses (B, n, n) of positive definite matrices (B, n, n)."""
    if not isinstance(matrices, np.ndarray):
        import torch

        factor, failed = torch.linalg.cholesky_ex(matrices)
        if not bool(failed.any()):
            return torch.cholesky_inverse(factor)
    return namespace(matrices).linalg.inv(matrices)
