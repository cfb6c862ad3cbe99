"""`residuals.normal_equations` and their solution as plain loops; see `compiled`.

Importing this compiles it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hand_mesh_ros.hand.compiled import jit

Array = NDArray[np.float64]
_TINY = 1e-30


@njit(inline="never", error_model="numpy")
def _inlier(square: float, limit: float) -> tuple[float, float]:
    """Weight and loss of the mixture with a flat outlier class; see `residuals`."""
    excess = 0.5 * (square - limit)
    weight = 1 / (1 + math.exp(min(max(excess, -40.0), 40.0)))
    return weight, 0.5 * limit - max(-excess, 0.0) - math.log1p(math.exp(-abs(excess)))


@jit(reads=(4, 5, 3, 1, 1), writes=(4, 3, 1))
def gather(
    residual: Array,  # (B, K, 21, D)
    jacobian: Array,  # (B, K, 21, D, 3)
    seen: Array,  # (B, K, 21)
    cutoff: Array,  # (B,)
    scale: Array,  # (B,)
    information: Array,  # (B, 21, 3, 3)
    pull: Array,  # (B, 21, 3)
    cost: Array,  # (B,)
) -> bool:
    """Add whitened residuals to the information and the pull at the landmarks."""
    batch, count, size, dimensions = residual.shape
    for b in range(batch):
        precision, limit = 1 / (scale[b] * scale[b]), cutoff[b] * cutoff[b]
        for v in range(count):
            for p in range(size):
                if seen[b, v, p] == 0.0:
                    continue
                e, J = residual[b, v, p], jacobian[b, v, p]
                square = 0.0
                for d in range(dimensions):
                    square += e[d] * e[d]
                weight, loss = _inlier(square * precision, limit)
                weight *= seen[b, v, p] * precision
                cost[b] += seen[b, v, p] * loss
                for d in range(dimensions):
                    for i in range(3):
                        force = weight * J[d, i]
                        pull[b, p, i] += force * e[d]
                        for j in range(3):
                            information[b, p, i, j] += force * J[d, j]
    return True


@njit(inline="never", error_model="numpy")
def _shift(difference: Array, precision: Array, L: Array, mean: Array) -> None:
    """Fill the mean (3,) of differences (21, 3), weighted by information (21, 3, 3), and the lower

    Cholesky factor L (3, 3) of its sum; zero and the identity where nothing weighs.
    """
    total = np.zeros((3, 3))
    mean[:], L[:] = 0.0, 0.0
    for p in range(len(precision)):
        for i in range(3):
            for j in range(3):
                total[i, j] += precision[p, i, j]
                mean[i] += precision[p, i, j] * difference[p, j]
    if not total[0, 0] > 0:
        for i in range(3):
            total[i, i] = 1.0
    for i in range(3):
        for j in range(i + 1):
            rest = total[i, j]
            for k in range(j):
                rest -= L[i, k] * L[j, k]
            L[i, j] = math.sqrt(max(rest, _TINY)) if i == j else rest / L[j, j]
    for i in range(3):
        for k in range(i):
            mean[i] -= L[i, k] * mean[k]
        mean[i] /= L[i, i]
    for i in range(2, -1, -1):
        for k in range(i + 1, 3):
            mean[i] -= L[k, i] * mean[k]
        mean[i] /= L[i, i]


@jit(reads=(4, 5, 4, 1, 1), writes=(4, 3, 1, 4))
def gather_relative(
    difference: Array,  # (B, M, 21, 3)
    whiten: Array,  # (B, M, 21, 3, 3)
    J: Array,  # (B, 21, 3, P)
    cutoff: Array,
    scale: Array,
    information: Array,  # (B, 21, 3, 3)
    pull: Array,  # (B, 21, 3)
    cost: Array,  # (B,)
    common: Array,  # (B, M, 3, P) zeros; what the common shifts take from the information
) -> bool:
    """Add sets of points that are known up to a common shift; `residuals` has the derivation."""
    batch, sets, size = difference.shape[:3]
    precision, L, mean = np.empty((size, 3, 3)), np.empty((3, 3)), np.empty(3)
    for b in range(batch):
        sharp, limit = 1 / (scale[b] * scale[b]), cutoff[b] * cutoff[b]
        for m in range(sets):
            W, d, out = whiten[b, m], difference[b, m], common[b, m]
            precision[:] = 0.0
            for p in range(size):
                for i in range(3):
                    for j in range(3):
                        for k in range(3):
                            precision[p, i, j] += W[p, k, i] * W[p, k, j]
            _shift(d, precision, L, mean)
            for p in range(size):
                if W[p, 0, 0] == 0.0:
                    continue
                square = 0.0
                for i in range(3):
                    residual = 0.0
                    for j in range(3):
                        residual += W[p, i, j] * (d[p, j] - mean[j])
                    square += residual * residual
                inlier, loss = _inlier(square * sharp, limit)
                cost[b] += loss
                for i in range(3):
                    for j in range(3):
                        precision[p, i, j] *= inlier * sharp
            _shift(d, precision, L, mean)
            for p in range(size):
                for i in range(3):
                    for j in range(3):
                        share = precision[p, i, j]
                        if share == 0.0:  # axes that do not mix are the usual case
                            continue
                        information[b, p, i, j] += share
                        pull[b, p, i] += share * (d[p, j] - mean[j])
                        for c in range(J.shape[3]):
                            out[i, c] += share * J[b, p, j, c]
            for c in range(J.shape[3]):
                for i in range(3):
                    for k in range(i):
                        out[i, c] -= L[i, k] * out[k, c]
                    out[i, c] /= L[i, i]
    return True


@jit(reads=(4, 4, 3, 4, 2, 2, 3, 1, 1, 0), writes=(3, 2, 1))
def assemble(
    J: Array,  # (B, 21, 3, P)
    information: Array,  # (B, 21, 3, 3)
    pull: Array,  # (B, 21, 3)
    common: Array,  # (B, M, 3, P)
    params: Array,  # (B, P)
    prior_mean: Array,
    prior_precision: Array,  # (B, P, P)
    lower: Array,  # (45,)
    upper: Array,
    limit_sigma: float,
    H: Array,  # (B, P, P)
    g: Array,  # (B, P)
    cost: Array,  # (B,)
) -> bool:
    """Fill H and g by the chain rule, with prior and joint limits; add these two's cost."""
    batch, size = params.shape
    for b in range(batch):
        for r in range(size):
            force = 0.0
            for c in range(size):
                H[b, r, c] = prior_precision[b, r, c]
                force += prior_precision[b, r, c] * (params[b, c] - prior_mean[b, c])
            g[b, r] = force
            cost[b] += 0.5 * force * (params[b, r] - prior_mean[b, r])
        for p in range(J.shape[1]):
            K, Q, f = J[b, p], information[b, p], pull[b, p]
            for r in range(size):
                x, y, z = K[0, r], K[1, r], K[2, r]
                # Most parameters move few landmarks.
                if x == 0.0 and y == 0.0 and z == 0.0:
                    continue
                qx = Q[0, 0] * x + Q[0, 1] * y + Q[0, 2] * z
                qy = Q[1, 0] * x + Q[1, 1] * y + Q[1, 2] * z
                qz = Q[2, 0] * x + Q[2, 1] * y + Q[2, 2] * z
                for c in range(r, size):
                    H[b, r, c] += qx * K[0, c] + qy * K[1, c] + qz * K[2, c]
                g[b, r] += f[0] * x + f[1] * y + f[2] * z
        for m in range(common.shape[1]):
            for i in range(3):
                for r in range(size):
                    x = common[b, m, i, r]
                    for c in range(r, size):
                        H[b, r, c] -= x * common[b, m, i, c]
        stiff = 1 / (limit_sigma * limit_sigma)
        for i in range(len(lower)):
            excess = min(params[b, 3 + i] - lower[i], 0.0) + max(params[b, 3 + i] - upper[i], 0.0)
            if excess != 0.0:
                H[b, 3 + i, 3 + i] += stiff
                g[b, 3 + i] += stiff * excess
                cost[b] += 0.5 * stiff * excess * excess
        for r in range(size):
            for c in range(r):
                H[b, r, c] = H[b, c, r]
    return True


@njit(inline="never", error_model="numpy")
def _factor(H: Array, damping: float, U: Array, scale: Array) -> bool:
    """Fill the upper triangle of U with Cholesky's factor of H scaled to ones, plus damping.

    Whether it is positive definite.
    """
    size = len(H)
    for r in range(size):
        scale[r] = 1 / math.sqrt(H[r, r])
    for r in range(size):
        for c in range(r, size):
            U[r, c] = scale[r] * H[r, c] * scale[c]
        U[r, r] += damping
    for r in range(size):
        pivot = U[r, r]
        if not pivot > 0:
            return False
        inverse = 1 / math.sqrt(pivot)
        for c in range(r, size):
            U[r, c] *= inverse
        for i in range(r + 1, size):
            share = U[r, i]
            if share != 0.0:
                for c in range(i, size):
                    U[i, c] -= share * U[r, c]
    return True


@jit(reads=(3, 2, 1), writes=(2,))
def solve_spd(H: Array, g: Array, damping: Array, x: Array) -> bool:
    """Fill x (B, P) with the solutions of (H + damping * diag(H)) x = g.

    H (B, P, P), g (B, P), damping (B,). False if an H is not positive definite.
    """
    batch, size = g.shape
    U, scale = np.empty((size, size)), np.empty(size)
    for b in range(batch):
        if not _factor(H[b], damping[b], U, scale):
            return False
        for r in range(size):
            x[b, r] = scale[r] * g[b, r]
        for r in range(size):
            x[b, r] /= U[r, r]
            for c in range(r + 1, size):
                x[b, c] -= U[r, c] * x[b, r]
        for r in range(size - 1, -1, -1):
            total = x[b, r]
            for c in range(r + 1, size):
                total -= U[r, c] * x[b, c]
            x[b, r] = total / U[r, r]
        for r in range(size):
            x[b, r] *= scale[r]
    return True


@jit(reads=(3,), writes=(3,))
def inverse_spd(H: Array, inverse: Array) -> bool:
    """Fill the inverses (B, P, P) of H (B, P, P). False if an H is not positive definite."""
    batch, size = H.shape[:2]
    U, scale = np.empty((size, size)), np.empty(size)
    W = np.empty((size, size))
    for b in range(batch):
        if not _factor(H[b], 0.0, U, scale):
            return False
        # W = U^-T, lower, row by row: U[r, r] W[r] = e_r - sum over c < r of U[c, r] W[c].
        for r in range(size):
            W[r] = 0.0
            for c in range(r):
                share = U[c, r]
                if share != 0.0:
                    for j in range(c + 1):
                        W[r, j] -= share * W[c, j]
            for j in range(r):
                W[r, j] /= U[r, r]
            W[r, r] = 1 / U[r, r]
        # W^T W, upper, whose row r has nothing right of column r.
        V = inverse[b]
        V[:] = 0.0
        for r in range(size):
            for i in range(r + 1):
                share = W[r, i]
                if share != 0.0:
                    for j in range(i, r + 1):
                        V[i, j] += share * W[r, j]
        for r in range(size):
            for c in range(r, size):
                V[r, c] *= scale[r] * scale[c]
                V[c, r] = V[r, c]
    return True
