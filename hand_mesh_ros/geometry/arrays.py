"""One set of formulas for NumPy arrays and torch tensors.

Functions that say *NumPy or torch* in their docstring compute in the namespace, the precision and
on the device of what they are given. ``array-api-compat`` gives both the names of the Python
array API standard.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace as namespace
from array_api_compat import device as _device

AnyArray = Any
"""A NumPy array or a torch tensor."""

__all__ = ["AnyArray", "eye", "like", "namespace", "zeros"]


def zeros(shape: tuple[int, ...], reference: AnyArray) -> AnyArray:
    """Zeros of the precision and on the device of ``reference``."""
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
