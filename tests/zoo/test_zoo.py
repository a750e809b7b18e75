"""The catalogue, and what every twin must keep."""

import subprocess
import sys

import numpy as np
import pytest
from sides import distances, small

from twinax.sources import zoo

SMALL = {
    "xor": {},
    "xor/logistic": {},
    "resnet50": {"blocks": [1, 2, 1, 1], "width": 8, "classes": 10},
    "bert": {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40},
    "bert/encoder": {
        "num_hidden_layers": 2,
        "hidden_size": 24,
        "num_attention_heads": 3,
        "intermediate_size": 40,
    },
    "lstm": {"hidden": 6},
    "gru": {"hidden": 6, "bidirectional": True},
    "svm": {"support_vectors": 9},
    "svm/linear": {},
    "svm/regressor": {"support_vectors": 9},
}


def test_names_titles_and_unknown():
    assert set(SMALL) <= set(zoo.names())
    assert zoo.titles().keys() == set(zoo.names())
    assert zoo.resolve("resnet51") is None
    assert all(zoo.resolve(name).name == name for name in zoo.names())


def test_the_catalogue_imports_no_framework():
    code = (
        "import sys; from twinax.sources import zoo; infos = [zoo.resolve(n).info for n in zoo.names()];"
        "assert all(set(i.sources) == {'torch', 'jax'} and all(i.sources.values()) for i in infos);"
        "print({'torch', 'jax', 'flax'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


@pytest.mark.parametrize("name", zoo.names())
def test_presets_and_draws(name):
    twin = small(zoo.resolve(name), **SMALL.get(name, {}))
    assert {"parity", "parity_quick", "speed", "speed_quick"} <= set(twin.presets)
    first, again, other = twin.init(twin.config, 0), twin.init(twin.config, 0), twin.init(twin.config, 1)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert any(not np.array_equal(first[n], other[n]) for n in first)
    assert {array.dtype for array in first.values()} <= {np.dtype(np.float32), np.dtype(np.int64)}
    size = twin.presets["parity_quick"]
    batches = twin.batches(twin.config, size, 0, 3)
    assert len(batches) == 3 and all(len(array) == size.batch for array in batches[0].values())
    assert not all(np.array_equal(batches[0][n], batches[1][n]) for n in batches[0])
    assert set(twin.inputs) <= set(batches[0])


COSTLY = ("resnet50", "bert/encoder")
"""Those that take long to compile, and of which another case runs."""


# without BatchNorm, and with dropout off, both modes are the same
@pytest.mark.parametrize(
    ("name", "train"),
    [
        *(pytest.param(name, False, marks=[pytest.mark.slow] if name in COSTLY else []) for name in SMALL),
        ("resnet50", True),
    ],
)
def test_both_sides_compute_the_same(name, train):
    twin = small(zoo.resolve(name), **SMALL[name])
    # BatchNorm over few pixels is the worst conditioned of all of this
    found = distances(twin, twin.presets["parity_quick"], train)
    assert max(found.values()) < 1e-11, max(found, key=found.get)
