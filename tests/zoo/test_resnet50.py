"""ResNet-50 has torchvision's names and computes what an independent implementation computes."""

import re

import numpy as np
import pytest
import torch
import transformers
from sides import runner

from twinax.records import Size
from twinax.sources import zoo
from twinax.studies.parity_verbs import perturb
from twinax.weights.checkpoint import fit, read_pth


@pytest.fixture(scope="module")
def twin():
    return zoo.resolve("resnet50")


@pytest.fixture(scope="module")
def weights(twin):
    return perturb(twin.init(twin.config, 0), 0)


def test_names_and_shapes_are_torchvisions(weights):
    parameters = {n: a for n, a in weights.items() if "running" not in n}
    assert len(parameters) == 161 and len(weights) == 161 + 106
    assert sum(a.size for a in parameters.values()) == 25_557_032
    assert weights["conv1.weight"].shape == (64, 3, 7, 7)
    assert weights["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert weights["layer4.2.bn3.running_var"].shape == (2048,)
    assert weights["layer3.5.conv2.weight"].shape == (256, 256, 3, 3)
    assert weights["fc.weight"].shape == (1000, 2048)
    assert "layer2.1.downsample.0.weight" not in weights and "layer3.6.conv1.weight" not in weights


def test_initial_weights_have_the_stated_deviation(twin):
    drawn = twin.init(twin.config, 0)
    assert drawn["layer2.0.conv2.weight"].std() == pytest.approx(np.sqrt(2 / (128 * 9)), rel=0.01)
    assert np.abs(drawn["fc.weight"]).max() <= 1 / np.sqrt(2048)


def theirs(name: str) -> str:
    """torchvision's name → the name in transformers' ResNet."""
    leaf = name.rsplit(".", 1)[1]
    if name.startswith("fc."):
        return f"classifier.1.{leaf}"
    if name.startswith(("conv1.", "bn1.")):
        part = "convolution" if name.startswith("conv") else "normalization"
        return f"resnet.embedder.embedder.{part}.{leaf}"
    stage, block, layer = re.match(r"layer(\d)\.(\d)\.(.*)\.\w+$", name).groups()
    prefix = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}"
    if layer.startswith("downsample"):
        return f"{prefix}.shortcut.{'convolution' if layer.endswith('0') else 'normalization'}.{leaf}"
    return f"{prefix}.layer.{int(layer[-1]) - 1}.{'convolution' if 'conv' in layer else 'normalization'}.{leaf}"


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_outputs_are_those_of_an_independent_implementation(twin, weights, side):
    config = transformers.ResNetConfig(num_labels=1000, downsample_in_bottleneck=False)
    model = transformers.ResNetForImageClassification(config).double()
    state = {theirs(name): torch.from_numpy(array).double() for name, array in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    (batch,) = twin.batches(twin.config, Size(batch=2, dims={"image": 64}), 0, 1)
    images = torch.from_numpy(batch["images"]).double()
    ours = runner(twin, side, weights)
    for train in (False, True):
        with torch.no_grad():
            expected = model.train(train)(images).logits.numpy()
        found = ours.evaluate(batch, train=train, gradients=False)
        difference = np.linalg.norm(found.outputs["output"] - expected) / np.linalg.norm(expected)
        assert difference < 1e-11, f"train={train}"
    # the running statistics moved as torch moves them: by the unbiased variance
    moved = model.state_dict()
    for name, buffer in found.buffers.items():
        np.testing.assert_allclose(buffer, moved[theirs(name)].numpy(), rtol=1e-9, err_msg=name)


def test_a_checkpoint_as_torch_saves_it_fits(twin, weights, tmp_path):
    state = {f"module.{name}": torch.from_numpy(array) for name, array in weights.items()}
    state |= {
        n.replace("running_mean", "num_batches_tracked"): torch.tensor(5) for n in state if "running_mean" in n
    }
    assert len(state) == 320
    torch.save({"state_dict": state, "epoch": 90}, tmp_path / "resnet50.pth")
    fitted = fit(read_pth(tmp_path / "resnet50.pth"), {name: a.shape for name, a in weights.items()})
    assert fitted.keys() == weights.keys()
    assert all(np.array_equal(fitted[name], weights[name]) for name in weights)
