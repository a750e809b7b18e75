"""What is said of a JAX model's graph: constants, changes of type with their line, work by module."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from twinax.frameworks import jax_graph

TABLE = np.arange(1000.0, dtype=np.float32)


def line_of(text):
    return next(i for i, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


def within(path, call):
    return jax_graph.scoped(path, None, call, None)


def model(w, x):
    x = within("layer", lambda: within("layer.product", lambda: x @ w))
    low = x.astype(jnp.bfloat16)  # narrowed
    x = within("loop", lambda: jax.lax.scan(lambda h, _: (h @ w, None), low.astype(x.dtype), length=3)[0])
    return (x.sum() * jnp.asarray(TABLE)).sum()


def captured(program="forward", function=model):
    arguments = jnp.ones((4, 4)), jnp.ones((3, 4))
    return jax_graph.capture(program, function, arguments, {"layer": "Dense"})


def test_constants_and_changes_of_type_are_named():
    found = captured()
    (constant,) = found.constants
    assert (constant["shape"], constant["bytes"]) == ([1000], 4000)
    first = found.promotions[0]
    assert first["from"] == ["float32"] and first["to"] == "bfloat16"
    assert first["file"] == __file__ and first["line"] == line_of("# narrowed") and "astype" in first["code"]


def test_work_is_counted_by_module_and_by_turn_of_a_loop():
    tree = captured().modules
    once = 2 * 3 * 4 * 4
    assert tree["layer.product"]["flops"] == tree["layer"]["flops"] == once
    assert tree["loop"]["flops"] == 3 * once
    assert tree[""]["flops"] == 4 * once
    assert tree["layer"]["type"] == "Dense"


def test_the_backward_pass_does_twice_the_work():
    equations = list(jax_graph._equations(jax.make_jaxpr(jax.grad(model, (0, 1)))(
        jnp.ones((4, 4)), jnp.ones((3, 4))
    ).jaxpr))  # fmt: skip
    work = sum(times * jax_graph._flops(equation) for equation, (_, times) in equations)
    assert work == 3 * 4 * 2 * 3 * 4 * 4


def test_convolutions_count_what_is_multiplied():
    def convolve(x, k, **options):
        return jax.lax.conv_general_dilated(x, k, (1, 1), "VALID", **options)

    x = jnp.ones((1, 4, 8, 8))
    for groups, kernel in ((1, (6, 4, 3, 3)), (2, (6, 2, 3, 3))):
        k = jnp.ones(kernel)
        tree = jax_graph.capture("forward", lambda x, k: convolve(x, k, feature_group_count=groups), (x, k), {})  # noqa: B023 - called at once
        assert tree.modules[""]["flops"] == 2 * (6 * 6 * 6) * (kernel[1] * 3 * 3)


def test_texts_of_all_three_forms_are_kept():
    found = captured("grad", jax.grad(model))
    assert set(found.texts) == {"grad.jaxpr.txt", "grad.stablehlo.txt", "grad.hlo.txt"}
    assert "stablehlo.dot_general" in found.texts["grad.stablehlo.txt"]
    assert found.modules == {}  # work by module is told of the forward pass
    assert sum(found.kernels.values()) >= 1
