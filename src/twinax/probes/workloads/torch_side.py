"""The workloads in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jacfwd, jacrev, vmap

from twinax.probes.workloads.problems import FINGERS, JOINTS
from twinax.twin import Array, Arrays

Named = dict[str, Tensor]
Function = Callable[[Named, Named], Tensor]
Jacobian = Callable[[Named, Named], Named]


def place(inputs: Arrays, constants: Arrays) -> tuple[Named, Named]:
    """Arrays as tensors."""
    return (
        {name: torch.from_numpy(array) for name, array in inputs.items()},
        {name: torch.from_numpy(np.asarray(array)) for name, array in constants.items()},
    )


def ready(
    function: Callable[[Named, Named], Tensor | Named], constants: Arrays
) -> Callable[[Named, Named], Array | Arrays]:
    """The function as it is; results in NumPy."""

    def call(inputs: Named, others: Named) -> Array | Arrays:
        found = function(inputs, others)
        return found.numpy() if isinstance(found, Tensor) else {name: t.numpy() for name, t in found.items()}

    return call


def gmm(inputs: Named, constants: Named) -> Tensor:
    alphas, means, icf, x = inputs["alphas"], inputs["means"], inputs["icf"], constants["x"]
    d = x.shape[1]
    logs, lower = icf[:, :d], icf[:, d:]
    rows, columns = torch.tril_indices(d, d, -1)
    q = torch.diag_embed(torch.exp(logs)).index_put((torch.arange(len(alphas))[:, None], rows, columns), lower)
    y = torch.einsum("kij,nkj->nki", q, x[:, None] - means)
    terms = alphas + logs.sum(1) - 0.5 * (y**2).sum(2)
    prior = -0.5 * ((torch.exp(logs) ** 2).sum() + (lower**2).sum())
    each = torch.logsumexp(terms, dim=1).sum()
    return constants["constant"] + each - len(x) * torch.logsumexp(alphas, dim=0) + prior


def gradient(objective: Function) -> Jacobian:
    """∇f with respect to every input, by the tape: one backward pass."""

    def call(inputs: Named, constants: Named) -> Named:
        leaves = {name: array.detach().requires_grad_() for name, array in inputs.items()}
        found = torch.autograd.grad(objective(leaves, constants), list(leaves.values()))
        return dict(zip(leaves, found, strict=True))

    return call


def project(cam: Tensor, point: Tensor) -> Tensor:
    local = rodrigues(cam[:3], point - cam[3:6])
    flat = local[:2] / local[2]
    square = flat @ flat
    return flat * (1 + cam[9] * square + cam[10] * square**2) * cam[6] + cam[7:9]


def rodrigues(r: Tensor, x: Tensor) -> Tensor:
    square = r @ r
    angle = torch.sqrt(torch.where(square == 0, 1.0, square))  # at no rotation: x + r × x, to first order
    axis, cosine = r / angle, torch.cos(angle)
    along_axis = axis * (axis @ x) * (1 - cosine)
    turned = x * cosine + torch.linalg.cross(axis, x) * torch.sin(angle) + along_axis
    return torch.where(square == 0, x + torch.linalg.cross(r, x), turned)


def residual(column: Tensor, feature: Tensor) -> Tensor:
    """One observation; column: a camera (11), a point (3) and a weight (1)."""
    return column[14] * (project(column[:11], column[11:14]) - feature)


def ba_columns(inputs: Named, constants: Named) -> Tensor:
    camera, point = constants["seen"].T
    return torch.cat([inputs["cams"][camera], inputs["points"][point], inputs["w"][:, None]], 1)


def ba(inputs: Named, constants: Named) -> Tensor:
    errors = vmap(residual)(ba_columns(inputs, constants), constants["features"])
    return torch.cat([errors.ravel(), 1 - inputs["w"] ** 2])


def ba_jacobian(inputs: Named, constants: Named) -> Named:
    blocks = vmap(jacrev(residual))(ba_columns(inputs, constants), constants["features"])
    return {"blocks": blocks, "weights": vmap(grad(lambda w: 1 - w**2))(inputs["w"])}


def ht(inputs: Named, constants: Named) -> Tensor:
    theta, c = inputs["theta"], constants
    bends = theta[6:].reshape(FINGERS, JOINTS)
    first = 1 + JOINTS * torch.arange(FINGERS)
    bones = torch.cat([first + 1, first + 1, first + 2, first + 3])
    axes = torch.tensor([0, 1, 0, 0]).repeat_interleave(FINGERS)
    angles = theta.new_zeros(len(c["parents"]), 3).index_put((bones, axes), bends.T.ravel())
    local = c["relative"] @ vmap(euler)(angles)
    absolute = [local[0]]
    for i in range(1, len(local)):
        absolute.append(absolute[int(c["parents"][i])] @ local[i])
    transforms = torch.stack(absolute) @ c["inverse"]
    skinned = torch.einsum("vb,bij,vj->vi", c["skin"], transforms, c["base"])[:, :3]
    moved = vmap(rodrigues, (None, 0))(theta[:3], skinned) + theta[3:6]
    return (c["measured"] - moved[c["vertex"]]).ravel()


def euler(angles: Tensor) -> Tensor:
    (cx, cy, cz), (sx, sy, sz) = torch.cos(angles), torch.sin(angles)
    nought, one = torch.zeros_like(cx), torch.ones_like(cx)
    rows = [
        torch.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx, nought]),
        torch.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx, nought]),
        torch.stack([-sy, cy * sx, cy * cx, nought]),
        torch.stack([nought, nought, nought, one]),
    ]
    return torch.stack(rows)


def ht_jacobian(inputs: Named, constants: Named) -> Named:
    return {"theta": jacfwd(lambda theta: ht({"theta": theta}, constants))(inputs["theta"])}


def lstm(inputs: Named, constants: Named) -> Tensor:
    main, extra, sequence = inputs["main"], inputs["extra"], constants["sequence"]
    gates = [(torch.chunk(weight, 4), torch.chunk(bias, 4)) for weight, bias in main]
    state = [(hidden, cell) for hidden, cell in constants["state"]]
    found = []
    for now, after in pairwise(sequence):
        x = now * extra[0]
        for layer, ((wf, wi, wo, wc), (bf, bi, bo, bc)) in enumerate(gates):
            hidden, cell = state[layer]
            kept, taken = torch.sigmoid(x * wf + bf), torch.sigmoid(hidden * wi + bi)
            cell = cell * kept + taken * torch.tanh(hidden * wc + bc)
            x = torch.sigmoid(x * wo + bo) * torch.tanh(cell)
            state[layer] = (x, cell)
        y = x * extra[1] + extra[2]
        found.append((after * (y - torch.log(torch.exp(y).sum() + 2))).sum())
    return -torch.stack(found).sum() / len(found) / sequence.shape[1]


OBJECTIVES: Mapping[str, Function] = {"gmm": gmm, "ba": ba, "ht": ht, "lstm": lstm}
JACOBIANS: Mapping[str, Jacobian] = {
    "gmm": gradient(gmm),
    "ba": ba_jacobian,
    "ht": ht_jacobian,
    "lstm": gradient(lstm),
}
