"""The solver's inner loops, compiled for NumPy in double precision by Numba.

`kinematics`, `residuals` and `solver` define everything, for NumPy and torch alike. What they
compute for a single hand is so small that calling NumPy costs ten times the arithmetic, so these
modules of plain loops stand in for the definitions where they can, and are tested equal to them.

Numba is imported at the first use only. Then the loops are compiled once a machine, some twenty
seconds, and kept on disk, beside the source or in the user's cache (``NUMBA_CACHE_DIR``). Without
Numba, or with ``NUMBA_DISABLE_JIT=1``, the definitions themselves do the work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from hand_mesh_ros.geometry.arrays import AnyArray

_LOG = logging.getLogger(__name__)
_SLOW = 5.0  # s; loading from disk takes less, even on a busy machine
_ONE_AT_A_TIME = threading.Lock()
_Kernel = Callable[..., bool]


def kernels(reference: AnyArray) -> Any:
    """The compiled functions for arrays of this kind, or None where there are none.

    Safe from any thread; the first call may wait for the compiler, and says so in the log.
    """
    if type(reference) is not np.ndarray or reference.dtype != np.float64:
        return None
    return _loaded()


def contiguous(*arrays: AnyArray) -> list[AnyArray]:
    """NumPy arrays as the compiled functions read them."""
    return [np.ascontiguousarray(array, dtype=np.float64) for array in arrays]


def warm_up() -> bool:
    """Compile now what was not compiled before; whether there is something compiled to use."""
    return _loaded() is not None


def _loaded() -> SimpleNamespace | None:
    if _load.cache_info().currsize:
        return _load()
    with _ONE_AT_A_TIME:
        return _load()


@lru_cache(maxsize=1)
def _load() -> SimpleNamespace | None:
    try:
        import numba
    except ImportError:
        _LOG.info("Numba is not installed: single hands are solved without compiled loops")
        return None
    if getattr(numba.config, "DISABLE_JIT", 0):
        return None
    began = time.monotonic()
    notice = threading.Timer(
        _SLOW, _LOG.warning, ["compiling the hand solver, once on this machine (about 20 s)..."]
    )
    notice.daemon = True
    notice.start()
    try:
        from hand_mesh_ros.hand import (
            compiled_loop,
            compiled_normal,
            compiled_points,
            compiled_views,
        )
    finally:
        notice.cancel()
    if (took := time.monotonic() - began) > _SLOW:
        _LOG.warning("compiled the hand solver in %.0f s", took)
    return SimpleNamespace(
        pose=compiled_points.pose,
        view=compiled_views.view,
        gather=compiled_normal.gather,
        gather_relative=compiled_normal.gather_relative,
        assemble=compiled_normal.assemble,
        iterate=compiled_loop.iterate,
        inverse_spd=compiled_normal.inverse_spd,
    )


def jit(reads: tuple[int, ...], writes: tuple[int, ...]) -> Callable[[_Kernel], _Kernel]:
    """Compile a function of float64 arrays, or load it from disk.

    ``reads`` are the dimensions of the arrays that it reads (0: a number), ``writes`` of those
    after them that it fills. All are C-contiguous. It returns a bool, and runs without the GIL.
    """
    import numba
    from numba import types

    def array(size: int, readonly: bool) -> Any:
        return types.Array(types.float64, size, "C", readonly) if size else types.float64

    arguments = [array(n, True) for n in reads] + [array(n, False) for n in writes]
    signature = types.boolean(*arguments)

    def compiled(function: _Kernel) -> _Kernel:
        made: Any
        try:
            made = numba.njit(signature, cache=True, nogil=True, error_model="numpy")(function)
        except RuntimeError as error:
            # No folder that Numba may write to.
            _LOG.warning("the compiled solver cannot be kept on disk: %s", error)
            made = numba.njit(signature, nogil=True, error_model="numpy")(function)
        return cast(_Kernel, made)

    return compiled
