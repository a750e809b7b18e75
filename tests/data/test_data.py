"""Example data: real, of the promised shapes, different per batch, the same for the same seed."""

import numpy as np
import pytest

from twinax.data import photographs, points, text
from twinax.errors import WeightsError


def same(a, b):
    return all(np.array_equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x)


def test_points_are_exclusive_or_in_changing_order():
    first, *others = points.batches(4, seed=3, count=8)
    np.testing.assert_array_equal(first["points"], points.POINTS)
    for batch in [first, *others]:
        expected = batch["points"][:, :1] != batch["points"][:, 1:]
        np.testing.assert_array_equal(batch["labels"], expected.astype(np.float32))
        assert sorted(map(tuple, batch["points"])) == sorted(map(tuple, points.POINTS))
    assert len({batch["points"].tobytes() for batch in others}) > 1
    assert points.batches(6, 0, 1)[0]["points"].shape == (6, 2)


def test_photographs():
    made = photographs.batches(6, 40, (7, 3), seed=1, count=2)
    for batch in made:
        assert batch["images"].shape == (6, 3, 40, 40) and batch["images"].dtype == np.float32
        assert set(batch["labels"]) == {7, 3} and batch["labels"].dtype == np.int64
        # normalised pixels lie between black and white of the channel with the widest range
        assert batch["images"].min() > -2.2 and batch["images"].max() < 2.7
        assert batch["images"].std() > 0.5
    images = np.concatenate([batch["images"] for batch in made])
    assert len({image.tobytes() for image in images}) == 12
    assert same(made, photographs.batches(6, 40, (7, 3), seed=1, count=2))
    assert not same(made, photographs.batches(6, 40, (7, 3), seed=2, count=2))


def test_the_label_belongs_to_the_photograph():
    # the flower is redder than it is blue, the palace's sky the other way round
    (batch,) = photographs.batches(64, 16, (0, 1), seed=0, count=1)
    redness = (batch["images"][:, 0] - batch["images"][:, 2]).mean(axis=(1, 2))
    assert redness[batch["labels"] == 1].mean() > redness[batch["labels"] == 0].mean() + 0.15


def test_sentences_are_prose():
    found = text.sentences()
    assert len(found) > 80
    assert {label for _, label in found} == {0, 1}
    assert not [s for s, _ in found if ">>>" in s or "===" in s or "\n" in s]
    assert "This is perhaps the best known database to be found in the pattern recognition literature." in {
        s for s, _ in found
    }


def test_text_batches_have_padding_pairs_and_no_unknown_tokens():
    tokens = text.tokenizer("", 30522)
    made = text.batches(8, 24, tokens, seed=0, count=2)
    for batch in made:
        ids, mask, types = (batch[name] for name in ("input_ids", "attention_mask", "token_type_ids"))
        assert ids.shape == mask.shape == types.shape == (8, 24) and batch["labels"].shape == (8,)
        assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}
        lengths = mask.sum(axis=1)
        assert lengths[0] > 12 and len(set(lengths)) > 2
        assert types.max() == 1 and (types <= mask).all()
        for row, length in zip(ids, lengths, strict=True):
            assert row[0] == tokens.token_to_id("[CLS]") and row[length - 1] == tokens.token_to_id("[SEP]")
            assert (row[length:] == 0).all() and (row[:length] != 0).all()
        assert tokens.token_to_id("[UNK]") not in ids
    assert same(made, text.batches(8, 24, text.tokenizer("", 30522), seed=0, count=2))
    assert not same(made, text.batches(8, 24, tokens, seed=1, count=2))


def test_a_small_vocabulary_keeps_its_limit():
    tokens = text.tokenizer("", 120)
    assert tokens.get_vocab_size() == 120
    assert max(batch["input_ids"].max() for batch in text.batches(4, 16, tokens, 0, 4)) < 120


def test_a_folder_with_a_wrong_tokenizer_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="neither"):
        text.tokenizer(str(tmp_path), 100)
    (tmp_path / "vocab.txt").write_text("\n".join([*text.SPECIAL, "a", "b"]))
    assert text.tokenizer(str(tmp_path), 100).get_vocab_size() == 7
    with pytest.raises(WeightsError, match="7 entries; the model embeds 6"):
        text.tokenizer(str(tmp_path), 6)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="no tokenizer"):
        text.tokenizer(str(tmp_path), 100)
