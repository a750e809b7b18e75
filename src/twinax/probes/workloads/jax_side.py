"""The workloads in JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array as JaxArray
from jax import grad, jacfwd, jacrev, vmap

from twinax.probes.workloads.problems import FINGERS, JOINTS
from twinax.twin import Array, Arrays

Named = dict[str, JaxArray]
Function = Callable[[Named, Named], JaxArray]
Jacobian = Callable[[Named, Named], Named]
STATIC = ("parents",)  # the hand's own structure: the program is made for it


def place(inputs: Arrays, constants: Arrays) -> tuple[Named, Named]:
    """Arrays on the device; a hand's structure stays in NumPy."""
    return (
        {name: jnp.asarray(array) for name, array in inputs.items()},
        {name: jnp.asarray(a) for name, a in constants.items() if name not in STATIC},
    )


def ready(
    function: Callable[[Named, Any], JaxArray | Named], constants: Arrays
) -> Callable[[Named, Named], Array | Arrays]:
    """The compiled function; it returns when its results are finished, in NumPy."""
    fixed = {name: constants[name] for name in STATIC if name in constants}
    compiled = jax.jit(lambda inputs, others: function(inputs, {**others, **fixed}))
    return lambda inputs, others: jax.tree.map(np.asarray, compiled(inputs, others))


def gmm(inputs: Named, constants: Named) -> JaxArray:
    alphas, means, icf, x = inputs["alphas"], inputs["means"], inputs["icf"], constants["x"]
    d = x.shape[1]
    logs, lower = icf[:, :d], icf[:, d:]
    rows, columns = np.tril_indices(d, -1)
    q = jax.vmap(jnp.diag)(jnp.exp(logs)).at[:, rows, columns].set(lower)
    y = jnp.einsum("kij,nkj->nki", q, x[:, None] - means)
    terms = alphas + logs.sum(1) - 0.5 * (y**2).sum(2)
    prior = -0.5 * ((jnp.exp(logs) ** 2).sum() + (lower**2).sum())
    each = jax.nn.logsumexp(terms, axis=1).sum()
    return constants["constant"] + each - len(x) * jax.nn.logsumexp(alphas) + prior


def project(cam: JaxArray, point: JaxArray) -> JaxArray:
    local = rodrigues(cam[:3], point - cam[3:6])
    flat = local[:2] / local[2]
    square = flat @ flat
    return flat * (1 + cam[9] * square + cam[10] * square**2) * cam[6] + cam[7:9]


def rodrigues(r: JaxArray, x: JaxArray) -> JaxArray:
    square = r @ r
    angle = jnp.sqrt(jnp.where(square == 0, 1.0, square))  # at no rotation: x + r × x, to first order
    axis, cosine = r / angle, jnp.cos(angle)
    along_axis = axis * (axis @ x) * (1 - cosine)
    turned = x * cosine + jnp.cross(axis, x) * jnp.sin(angle) + along_axis
    return jnp.where(square == 0, x + jnp.cross(r, x), turned)


def residual(column: JaxArray, feature: JaxArray) -> JaxArray:
    """One observation; column: a camera (11), a point (3) and a weight (1)."""
    return column[14] * (project(column[:11], column[11:14]) - feature)


def ba_columns(inputs: Named, constants: Named) -> JaxArray:
    camera, point = constants["seen"].T
    return jnp.concatenate([inputs["cams"][camera], inputs["points"][point], inputs["w"][:, None]], 1)


def ba(inputs: Named, constants: Named) -> JaxArray:
    errors = vmap(residual)(ba_columns(inputs, constants), constants["features"])
    return jnp.concatenate([errors.ravel(), 1 - inputs["w"] ** 2])


def ba_jacobian(inputs: Named, constants: Named) -> Named:
    blocks = vmap(jacrev(residual))(ba_columns(inputs, constants), constants["features"])
    return {"blocks": blocks, "weights": vmap(grad(lambda w: 1 - w**2))(inputs["w"])}


def ht(inputs: Named, constants: Named) -> JaxArray:
    theta, c = inputs["theta"], constants
    bends = theta[6:].reshape(FINGERS, JOINTS)
    first = 1 + JOINTS * np.arange(FINGERS)
    angles = jnp.zeros((len(c["parents"]), 3))
    angles = angles.at[first + 1, 0].set(bends[:, 0]).at[first + 1, 1].set(bends[:, 1])
    angles = angles.at[first + 2, 0].set(bends[:, 2]).at[first + 3, 0].set(bends[:, 3])
    local = c["relative"] @ vmap(euler)(angles)
    absolute = [local[0]]
    for i in range(1, len(local)):
        absolute.append(absolute[int(c["parents"][i])] @ local[i])
    transforms = jnp.stack(absolute) @ c["inverse"]
    skinned = jnp.einsum("vb,bij,vj->vi", c["skin"], transforms, c["base"])[:, :3]
    moved = vmap(rodrigues, (None, 0))(theta[:3], skinned) + theta[3:6]
    return (c["measured"] - moved[c["vertex"]]).ravel()


def euler(angles: JaxArray) -> JaxArray:
    (cx, cy, cz), (sx, sy, sz) = jnp.cos(angles), jnp.sin(angles)
    rotation = jnp.stack(
        [
            jnp.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx]),
            jnp.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx]),
            jnp.stack([-sy, cy * sx, cy * cx]),
        ]
    )
    return jnp.eye(4).at[:3, :3].set(rotation)


def ht_jacobian(inputs: Named, constants: Named) -> Named:
    return {"theta": jacfwd(lambda theta: ht({"theta": theta}, constants))(inputs["theta"])}


def lstm(inputs: Named, constants: Named) -> JaxArray:
    main, extra, sequence = inputs["main"], inputs["extra"], constants["sequence"]

    def step(state: JaxArray, characters: tuple[JaxArray, JaxArray]) -> tuple[JaxArray, JaxArray]:
        now, after = characters
        x, new = now * extra[0], []
        for (weight, bias), (hidden, cell) in zip(main, state, strict=True):
            (wf, wi, wo, wc), (bf, bi, bo, bc) = jnp.split(weight, 4), jnp.split(bias, 4)
            kept, taken = jax.nn.sigmoid(x * wf + bf), jax.nn.sigmoid(hidden * wi + bi)
            cell = cell * kept + taken * jnp.tanh(hidden * wc + bc)
            x = jax.nn.sigmoid(x * wo + bo) * jnp.tanh(cell)
            new.append(jnp.stack([x, cell]))
        y = x * extra[1] + extra[2]
        return jnp.stack(new), (after * (y - jnp.log(jnp.exp(y).sum() + 2))).sum()

    _, found = jax.lax.scan(step, constants["state"], (sequence[:-1], sequence[1:]))
    return -found.sum() / len(found) / sequence.shape[1]


OBJECTIVES: Mapping[str, Function] = {"gmm": gmm, "ba": ba, "ht": ht, "lstm": lstm}
JACOBIANS: Mapping[str, Jacobian] = {"gmm": grad(gmm), "ba": ba_jacobian, "ht": ht_jacobian, "lstm": grad(lstm)}
