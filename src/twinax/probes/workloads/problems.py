"""The workloads' sizes, data and objectives in NumPy, float64.

Every objective takes complex numbers too, so that its derivative along v is Im f(x + i h v) / h with h = 1e-30,
right to the last digits (Squire & Trapp, 1998): the reference for both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twinax.twin import Array, Arrays

STEP = 1e-30
FINGERS, JOINTS = 5, 4  # of the hand: a wrist, and four bones per finger


@dataclass(frozen=True)
class Problem:
    """One workload.

    Attributes:
        title: What it is, with its Jacobian.
        size: A size of the published suite.
        data: ``(size, seed) -> differentiated inputs, constants``.
        objective: ``(inputs, constants) -> values``; complex inputs too.
        product: ``(Jacobian as a side returns it, direction, constants) -> Jacobian · direction``.
    """

    title: str
    size: Mapping[str, int]
    data: Callable[[Mapping[str, int], int], tuple[Arrays, Arrays]]
    objective: Callable[[Arrays, Arrays], Array]
    product: Callable[[Arrays, Arrays, Arrays], Array]


def along(problem: Problem, inputs: Arrays, constants: Arrays, v: Arrays) -> Array:
    """The derivative of a problem's objective along v, by complex step."""
    moved = {name: array + 1j * STEP * v[name] for name, array in inputs.items()}
    return np.imag(problem.objective(moved, constants)) / STEP


def direction(inputs: Arrays, seed: int) -> Arrays:
    """A random direction like the inputs."""
    draw = np.random.default_rng([seed, 0xD1])
    return {name: draw.standard_normal(array.shape) for name, array in inputs.items()}


def _inner(jacobian: Arrays, v: Arrays, constants: Arrays) -> Array:
    """⟨∇f, v⟩: the Jacobian of a scalar."""
    return np.asarray(sum(float((jacobian[name] * v[name]).sum()) for name in v))


# --- Gaussian mixture --------------------------------------------------------------------------------


def gmm_data(size: Mapping[str, int], seed: int) -> tuple[Arrays, Arrays]:
    """alphas (K), means (K, d), icf (K, d(d+1)/2); x (n, d)."""
    draw, (d, k, n) = np.random.default_rng([seed, 0x63]), (size["d"], size["K"], size["n"])
    inputs = {
        "alphas": draw.standard_normal(k),
        "means": draw.uniform(0, 1, (k, d)),
        "icf": draw.standard_normal((k, d * (d + 1) // 2)),
    }
    return inputs, {"x": draw.standard_normal((n, d)), "constant": np.asarray(gmm_constant(d, k, n))}


def gmm_constant(d: int, k: int, n: int, gamma: float = 1.0, m: int = 0) -> float:
    """What does not depend on the parameters: −n d/2 log 2π, and the Wishart priors' normalisers."""
    degrees = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + sum(
        math.lgamma(0.5 * degrees + 0.5 * (1 - j)) for j in range(1, d + 1)
    )
    normaliser = degrees * d * (math.log(gamma) - 0.5 * math.log(2)) - log_gamma
    return -n * d * 0.5 * math.log(2 * math.pi) + k * normaliser


def gmm(inputs: Arrays, constants: Arrays) -> Array:
    """Log-posterior: Σₙ log Σₖ exp(αₖ + Σ qₖ − ½‖Qₖ(xₙ − μₖ)‖²) − n log Σₖ exp αₖ − ½ Σₖ‖Qₖ‖² + constant.

    Section 4.1. The prior has the sign of a density, as in GradBench; ADBench's own code has the other one.
    """
    alphas, means, icf, x = inputs["alphas"], inputs["means"], inputs["icf"], constants["x"]
    d = x.shape[1]
    logs, lower = icf[:, :d], icf[:, d:]
    q = np.zeros((len(alphas), d, d), dtype=icf.dtype)
    q[:, np.arange(d), np.arange(d)] = np.exp(logs)
    q[:, *np.tril_indices(d, -1)] = lower
    y = np.einsum("kij,nkj->nki", q, x[:, None] - means)
    terms = alphas + logs.sum(1) - 0.5 * (y**2).sum(2)
    prior = -0.5 * ((np.exp(logs) ** 2).sum() + (lower**2).sum())
    return constants["constant"] + _logsumexp(terms).sum() - len(x) * _logsumexp(alphas) + prior


def _logsumexp(x: Array) -> Array:
    top = np.real(x).max(axis=-1, keepdims=True)  # of the real part: complex numbers have no order
    return np.log(np.exp(x - top).sum(axis=-1)) + top[..., 0]


# --- bundle adjustment -------------------------------------------------------------------------------


def ba_data(size: Mapping[str, int], seed: int) -> tuple[Arrays, Arrays]:
    """cams (n, 11), points (m, 3), w (p); observed camera and point (p, 2), feature (p, 2)."""
    draw = np.random.default_rng([seed, 0xBA])
    n, m, p = size["n"], size["m"], size["p"]
    rotation, centre = 0.3 * draw.standard_normal((n, 3)), 0.2 * draw.standard_normal((n, 3))
    optics = [1.0, 0.0, 0.0, 0.01, 0.001] + 0.01 * draw.standard_normal((n, 5))
    points = draw.uniform([-1, -1, 4], [1, 1, 6], (m, 3))
    seen = np.stack([draw.integers(n, size=p), np.concatenate([np.arange(m), draw.integers(m, size=p - m)])], 1)
    inputs = {
        "cams": np.concatenate([rotation, centre, optics], 1),
        "points": points,
        "w": draw.uniform(0, 1, p),
    }
    return inputs, {"seen": seen, "features": draw.uniform(-1, 1, (p, 2))}


def ba(inputs: Arrays, constants: Arrays) -> Array:
    """w (project(camera, point) − feature), then 1 − w²: section 4.2; (3 p)."""
    cam, point = inputs["cams"][constants["seen"][:, 0]], inputs["points"][constants["seen"][:, 1]]
    local = _rodrigues(cam[:, :3], point - cam[:, 3:6])
    flat = local[:, :2] / local[:, 2:]
    square = (flat**2).sum(1, keepdims=True)
    bent = flat * (1 + cam[:, 9:10] * square + cam[:, 10:11] * square**2)
    error = inputs["w"][:, None] * (bent * cam[:, 6:7] + cam[:, 7:9] - constants["features"])
    return np.concatenate([error.ravel(), 1 - inputs["w"] ** 2])


def _rodrigues(r: Array, x: Array) -> Array:
    """x rotated by the angle ‖r‖ about the axis r."""
    square = (r**2).sum(1, keepdims=True)
    angle = np.sqrt(np.where(square == 0, 1.0, square))  # at no rotation: x + r × x, to first order
    axis, cosine = r / angle, np.cos(angle)
    along_axis = axis * (axis * x).sum(1, keepdims=True) * (1 - cosine)
    return np.where(
        square == 0, x + np.cross(r, x), x * cosine + np.cross(axis, x) * np.sin(angle) + along_axis
    )


def ba_product(jacobian: Arrays, v: Arrays, constants: Arrays) -> Array:
    """blocks (p, 2, 15) of a camera, a point and a weight; ``weights`` (p) of 1 − w²."""
    camera, point = constants["seen"].T
    column = np.concatenate([v["cams"][camera], v["points"][point], v["w"][:, None]], 1)
    return np.concatenate(
        [np.einsum("pij,pj->pi", jacobian["blocks"], column).ravel(), jacobian["weights"] * v["w"]]
    )


# --- hand tracking -----------------------------------------------------------------------------------


def ht_data(size: Mapping[str, int], seed: int) -> tuple[Arrays, Arrays]:
    """theta (26): rotation, translation, four angles per finger; a hand of 22 bones and its measured points."""
    draw, vertices = np.random.default_rng([seed, 0x47]), size["vertices"]
    parents = np.array(
        [-1, *(0 if j == 0 else 1 + f * JOINTS + j - 1 for f in range(FINGERS) for j in range(JOINTS)), 0]
    )
    bones = len(parents)
    relative = np.tile(np.eye(4), (bones, 1, 1))
    relative[:, :3, 3] = 0.3 * draw.standard_normal((bones, 3))
    absolute = [relative[0]]
    for i in range(1, bones):
        absolute.append(absolute[parents[i]] @ relative[i])
    skin = draw.uniform(0, 1, (vertices, bones)) ** 8
    return {"theta": 0.3 * draw.standard_normal(6 + FINGERS * JOINTS)}, {
        "parents": parents,
        "relative": relative,
        "inverse": np.linalg.inv(np.stack(absolute)),
        "base": np.concatenate([draw.standard_normal((vertices, 3)), np.ones((vertices, 1))], 1),
        "skin": skin / skin.sum(1, keepdims=True),
        "vertex": draw.integers(vertices, size=size["points"]),
        "measured": draw.standard_normal((size["points"], 3)),
    }


def ht(inputs: Arrays, constants: Arrays) -> Array:
    """measured point − skinned vertex: section 4.3, the simple variant; (3 points)."""
    theta, c = inputs["theta"], constants
    angles = np.zeros((len(c["parents"]), 3), dtype=theta.dtype)
    bends = theta[6:].reshape(FINGERS, JOINTS)
    first = 1 + JOINTS * np.arange(FINGERS)
    angles[first + 1, 0], angles[first + 1, 1] = bends[:, 0], bends[:, 1]
    angles[first + 2, 0], angles[first + 3, 0] = bends[:, 2], bends[:, 3]
    local = c["relative"] @ _euler(angles)
    absolute = [local[0]]
    for i in range(1, len(local)):
        absolute.append(absolute[c["parents"][i]] @ local[i])
    transforms = np.stack(absolute) @ c["inverse"]
    skinned = np.einsum("vb,bij,vj->vi", c["skin"], transforms, c["base"])[:, :3]
    moved = _rodrigues(np.broadcast_to(theta[:3], skinned.shape), skinned) + theta[3:6]
    return (c["measured"] - moved[c["vertex"]]).ravel()


def _euler(angles: Array) -> Array:
    """Rz Ry Rx as 4×4 matrices; angles (bones, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles).T, np.sin(angles).T
    out = np.zeros((len(angles), 4, 4), dtype=angles.dtype)
    out[:, 0, :3] = np.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], 1)
    out[:, 1, :3] = np.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], 1)
    out[:, 2, :3] = np.stack([-sy, cy * sx, cy * cx], 1)
    out[:, 3, 3] = 1
    return out


# --- LSTM --------------------------------------------------------------------------------------------


def lstm_data(size: Mapping[str, int], seed: int) -> tuple[Arrays, Arrays]:
    """main (layers, 2, 4 b), extra (3, b); state (layers, 2, b), sequence (n, b) of characters in b bits."""
    draw, b = np.random.default_rng([seed, 0x15]), size["bits"]
    inputs = {
        "main": draw.uniform(-1, 1, (size["layers"], 2, 4 * b)),
        "extra": draw.uniform(-1, 1, (3, b)),
    }
    characters = draw.integers(2, size=(size["n"], b)).astype(np.float64)
    return inputs, {"state": draw.uniform(-1, 1, (size["layers"], 2, b)), "sequence": characters}


def lstm(inputs: Arrays, constants: Arrays) -> Array:
    """Cross-entropy of the next character under an LSTM with diagonal weights; the + 2 is the suites' own."""
    main, extra, sequence = inputs["main"], inputs["extra"], constants["sequence"]
    state = [(hidden, cell) for hidden, cell in constants["state"]]
    total = 0.0
    for now, after in pairwise(sequence):
        x = now * extra[0]
        for layer, (hidden, cell) in enumerate(state):
            (wf, wi, wo, wc), (bf, bi, bo, bc) = np.split(main[layer, 0], 4), np.split(main[layer, 1], 4)
            cell = cell * _sigmoid(x * wf + bf) + _sigmoid(hidden * wi + bi) * np.tanh(hidden * wc + bc)
            x = _sigmoid(x * wo + bo) * np.tanh(cell)
            state[layer] = (x, cell)
        y = x * extra[1] + extra[2]
        total = total + (after * (y - np.log(np.exp(y).sum() + 2))).sum()
    return np.asarray(-total / (len(sequence) - 1) / sequence.shape[1])


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


PROBLEMS: Mapping[str, Problem] = {
    "gmm": Problem(
        "Gaussian mixture, gradient by reverse mode",
        {"d": 10, "K": 25, "n": 1000},
        gmm_data,
        gmm,
        _inner,
    ),
    "ba": Problem(
        "bundle adjustment, sparse Jacobian by blocks",
        {"n": 21, "m": 11315, "p": 36455},
        ba_data,
        ba,
        ba_product,
    ),
    "ht": Problem(
        "hand tracking, dense Jacobian by forward mode",
        {"vertices": 544, "points": 1000},
        ht_data,
        ht,
        lambda jacobian, v, constants: jacobian["theta"] @ v["theta"],
    ),
    "lstm": Problem(
        "LSTM, gradient by reverse mode through time",
        {"layers": 2, "n": 1024, "bits": 14},
        lstm_data,
        lstm,
        _inner,
    ),
}
