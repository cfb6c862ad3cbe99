"""What cameras see of 21 points, whitened, as plain loops; see `compiled`.

Stands in for `projection.project_arrays` and the whitening in `residuals`. Importing compiles.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hand_mesh_ros.hand.compiled import jit

Array = NDArray[np.float64]

_NEAR = 1e-6
_TINY = math.sqrt(float(np.finfo(np.float64).smallest_normal))


@njit(inline="never", error_model="numpy")
def _polynomial(k: Array, local: Array, limit: float, xy: Array, J: Array) -> bool:
    """Fill distorted normalised xy (2,) and its derivative J (2, 3) by the camera's point."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (
        k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7], k[8], k[9], k[10], k[11],
    )  # fmt: skip
    in_front = local[2] > _NEAR
    inverse = 1 / local[2] if in_front else 1.0
    x, y = local[0] * inverse, local[1] * inverse
    radius = math.sqrt(x * x + y * y)
    shrink = min(1.0, limit / max(radius, _TINY))
    x, y = x * shrink, y * shrink
    xx, xy2, yy = x * x, 2 * x * y, y * y
    r2 = xx + yy
    bottom = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / bottom
    d_top = k1 + r2 * (2 * k2 + 3 * k3 * r2)
    d_bottom = k4 + r2 * (2 * k5 + 3 * k6 * r2)
    slope = (d_top - radial * d_bottom) / bottom
    xy[0] = x * radial + p1 * xy2 + p2 * (r2 + 2 * xx) + r2 * (s1 + s2 * r2)
    xy[1] = y * radial + p2 * xy2 + p1 * (r2 + 2 * yy) + r2 * (s3 + s4 * r2)
    prism_x, prism_y = 2 * (s1 + 2 * s2 * r2), 2 * (s3 + 2 * s4 * r2)
    cross = xy2 * slope + 2 * (p1 * x + p2 * y)
    J[0, 0] = (radial + 2 * xx * slope + 2 * p1 * y + 6 * p2 * x + x * prism_x) * inverse
    J[0, 1] = (cross + y * prism_x) * inverse
    J[1, 0] = (cross + x * prism_y) * inverse
    J[1, 1] = (radial + 2 * yy * slope + 2 * p2 * x + 6 * p1 * y + y * prism_y) * inverse
    J[0, 2] = -(J[0, 0] * x + J[0, 1] * y)
    J[1, 2] = -(J[1, 0] * x + J[1, 1] * y)
    return in_front and radius < limit


@njit(inline="never", error_model="numpy")
def _equidistant(k: Array, local: Array, limit: float, xy: Array, J: Array) -> bool:
    """`_polynomial` for the fisheye."""
    x, y, z = local[0], local[1], local[2]
    rho2 = x * x + y * y
    rho = math.sqrt(rho2)
    theta = math.atan2(rho, z)
    t2 = theta * theta
    value = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
    if rho < 1e-12:
        safe_z = z if z != 0 else 1.0
        ratio, d_rho, d_z, ux, uy = 1 / safe_z, 0.0, -1 / (safe_z * safe_z), x, y
    else:
        norm2 = rho2 + z * z + _TINY
        ratio = value / rho
        d_rho = (slope * z / norm2 - ratio) / rho
        d_z, ux, uy = -slope / norm2, x / rho, y / rho
    xy[0], xy[1] = x * ratio, y * ratio
    J[0, 0] = ratio + x * d_rho * ux
    J[0, 1] = x * d_rho * uy
    J[1, 0] = y * d_rho * ux
    J[1, 1] = ratio + y * d_rho * uy
    J[0, 2] = x * d_z
    J[1, 2] = y * d_z
    return theta < limit


@jit(reads=(4, 3, 4, 3, 3, 2, 2, 3, 4, 5), writes=(4, 4, 5, 3, 3))
def view(
    R: Array,  # (B, V, 3, 3) and so on as in CameraArrays
    t: Array,
    A: Array,
    c: Array,
    k: Array,  # (B, V, 12), or (B, V, 5)
    limit: Array,
    fisheye: Array,  # (B, V) 1 or 0
    points: Array,  # (B, 21, 3)
    seen_at: Array,  # (B, V, 21, 2)
    whiten: Array,  # (B, V, 21, 2, 2)
    uv: Array,  # (B, V, 21, 2)
    residual: Array,  # (B, V, 21, 2)
    jacobian: Array,  # (B, V, 21, 2, 3)
    seen: Array,  # (B, V, 21)
    depth: Array,  # (B, V, 21)
) -> bool:
    """Fill pixels, whitened residuals with their derivative by the point, visibility and depth."""
    local, xy = np.empty(3), np.empty(2)
    J, JR, AJ = np.empty((2, 3)), np.empty((2, 3)), np.empty((2, 3))
    for b in range(R.shape[0]):
        for v in range(R.shape[1]):
            kk = np.zeros(12)
            kk[: k.shape[2]] = k[b, v]
            for p in range(points.shape[1]):
                for i in range(3):
                    local[i] = t[b, v, i]
                    for j in range(3):
                        local[i] += R[b, v, i, j] * points[b, p, j]
                if fisheye[b, v] > 0:
                    valid = _equidistant(kk, local, limit[b, v], xy, J)
                else:
                    valid = _polynomial(kk, local, limit[b, v], xy, J)
                W = whiten[b, v, p]
                depth[b, v, p] = local[2]
                seen[b, v, p] = 1.0 if valid and W[0, 0] > 0 else 0.0
                for i in range(2):
                    uv[b, v, p, i] = A[b, v, i, 0] * xy[0] + A[b, v, i, 1] * xy[1] + c[b, v, i]
                    for j in range(3):
                        AJ[i, j] = A[b, v, i, 0] * J[0, j] + A[b, v, i, 1] * J[1, j]
                for i in range(2):
                    for j in range(3):
                        JR[i, j] = 0.0
                        for m in range(3):
                            JR[i, j] += AJ[i, m] * R[b, v, m, j]
                du = uv[b, v, p, 0] - seen_at[b, v, p, 0]
                dv = uv[b, v, p, 1] - seen_at[b, v, p, 1]
                for i in range(2):
                    residual[b, v, p, i] = W[i, 0] * du + W[i, 1] * dv
                    for j in range(3):
                        jacobian[b, v, p, i, j] = W[i, 0] * JR[0, j] + W[i, 1] * JR[1, j]
    return True
