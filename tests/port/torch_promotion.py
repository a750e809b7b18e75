"""torch's type promotion: the dtype in which an operation computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from twinax.port.torch_to_jax import table


def common_dtype(
    name: str, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> torch.dtype | None:
    """The dtype to which the tensors of an operation are cast; None where it casts none.

    Numbers count as torch's: a float among integers makes the default float dtype, 0-d tensors count only where
    they are of a higher kind (https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc).
    """
    if not _entries()[name].promote:
        return None
    kinds = {a.name: str(a.type) for a in operation._schema.arguments}
    given = {**dict(zip(kinds, args, strict=False)), **kwargs}
    operand = ("Tensor", "number")  # a dtype that the test fills in is not in the schema
    values = [value for key, value in given.items() if any(k in kinds.get(key, "") for k in operand)]
    operands = [x for x in tree_leaves(values) if isinstance(x, torch.Tensor | float | int)]
    dims = [x for x in operands if isinstance(x, torch.Tensor) and x.dim() > 0]
    zeros = [x for x in operands if isinstance(x, torch.Tensor) and x.dim() == 0]
    numbers = [x for x in operands if not isinstance(x, torch.Tensor)]
    category = (_highest(dims), _highest(zeros), _number(numbers))
    result = category[0]
    for other in category[1:]:
        if other is not None and (result is None or _kind(other) > _kind(result)):
            result = other
    return result


@cache
def _entries() -> dict[str, table.Entry]:
    return table.read()


def _highest(tensors: Sequence[torch.Tensor]) -> torch.dtype | None:
    result = None
    for tensor in tensors:
        result = tensor.dtype if result is None else torch.promote_types(result, tensor.dtype)
    return result


def _number(numbers: Sequence[Any]) -> torch.dtype | None:
    if not numbers:
        return None
    if any(isinstance(n, float) for n in numbers):
        return torch.get_default_dtype()
    return torch.bool if all(isinstance(n, bool) for n in numbers) else torch.int64


def _kind(dtype: torch.dtype) -> int:
    """0 for bool, 1 for integers, 2 for floats, 3 for complex numbers."""
    return 3 if dtype.is_complex else 2 if dtype.is_floating_point else 0 if dtype == torch.bool else 1
