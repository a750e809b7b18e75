"""Batches of English sentences, tokenised: from the data set descriptions that scikit-learn ships.

The sentences come with a label that can be learnt from them: whether they describe medical data.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from twinax.data import shipped
from twinax.errors import WeightsError
from twinax.twin import Arrays

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MEDICAL = ("breast_cancer", "diabetes", "linnerud")
OTHER = ("california_housing", "digits", "iris", "kddcup99", "lfw", "rcv1", "twenty_newsgroups", "wine_data")


@cache
def sentences() -> tuple[tuple[str, int], ...]:
    """(sentence, 1 where it describes medical data), in a fixed order."""
    found = []
    for label, names in enumerate((OTHER, MEDICAL)):
        for name in names:
            text = shipped.file("descr", f"{name}.rst").read_text(encoding="utf-8")
            found += [(sentence, label) for sentence in _prose(text)]
    return tuple(found)


def _prose(text: str) -> list[str]:
    """Sentences of a reStructuredText page; tables, code, lists of fields and headings are left out."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        if re.search(r"^\s*(>>>|\.\. |:|=+\s|-+$|={3,})|::$", paragraph, re.MULTILINE):
            continue
        flat = re.sub(r"[`*_|]+|<[^>]*>", "", " ".join(paragraph.split()))
        found += [s for s in re.split(r"(?<=[.?!])\s+(?=[A-Z\"])", flat) if _is_sentence(s)]
    return found


def _is_sentence(text: str) -> bool:
    letters = sum(c.isalpha() or c.isspace() for c in text)
    return len(text.split()) >= 6 and letters >= 0.8 * len(text)


def tokenizer(folder: str, vocab_size: int) -> Tokenizer:
    """A checkpoint's own tokenizer, or one with a vocabulary made of the sentences.

    Args:
        folder: Folder with ``tokenizer.json`` or ``vocab.txt``; empty makes a vocabulary.
        vocab_size: Most entries that the vocabulary may have.

    Raises:
        WeightsError: The folder's tokenizer is corrupt, or has more entries than ``vocab_size``.
    """
    if not folder:
        return _word_piece(_vocabulary(vocab_size))
    file = next((f for f in (Path(folder) / "tokenizer.json", Path(folder) / "vocab.txt") if f.exists()), None)
    if file is None:
        raise WeightsError(
            f"{folder} holds neither tokenizer.json nor vocab.txt.", "Add the tokenizer's files."
        )
    try:
        made = (
            Tokenizer.from_file(str(file))
            if file.suffix == ".json"
            else _word_piece(models.WordPiece.read_file(str(file)))
        )
    except Exception as error:  # the Rust library raises plain Exception
        raise WeightsError(f"{file} is no tokenizer: {error}.", "Download the checkpoint again.") from error
    if made.get_vocab_size() > vocab_size:
        raise WeightsError(
            f"{file} has {made.get_vocab_size()} entries; the model embeds {vocab_size}.",
            "Tokenizer and weights come from different checkpoints.",
        )
    made.no_padding()
    made.no_truncation()
    return made


@cache
def _vocabulary(size: int) -> dict[str, int]:
    """Special tokens, characters, their continuations, then the commonest words."""
    words = Counter(w for s, _ in sentences() for w in re.findall(r"\w+", s.lower()))
    characters = sorted({c for s, _ in sentences() for c in s.lower() if not c.isspace()})
    entries = [*SPECIAL, *characters, *(f"##{c}" for c in characters)]
    # equally common words in alphabetical order, so that the vocabulary is always the same
    common = sorted((w for w in words if len(w) > 1), key=lambda w: (-words[w], w))
    return {entry: i for i, entry in enumerate((entries + common)[:size])}


def _word_piece(vocabulary: dict[str, int]) -> Tokenizer:
    """BERT's tokenizer (Devlin et al., arXiv:1810.04805): lower case, word pieces, [CLS] a [SEP] b [SEP]."""
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return made


def batches(batch: int, sequence: int, tokens: Tokenizer, seed: int, count: int) -> list[Arrays]:
    """``count`` batches of sentences and of sentence pairs, of different lengths.

    Args:
        batch: Examples per batch.
        sequence: Tokens per example, at least 8; shorter ones are padded with 0.
        tokens: What :func:`tokenizer` returned.
        seed: The same seed gives the same bytes.
        count: Number of batches.

    Returns:
        All int64: ``input_ids``, ``attention_mask`` (1 where there is a token) and ``token_type_ids``
        (1 in the second sentence of a pair), each (batch, sequence); ``labels`` (batch,).
    """
    rng = np.random.default_rng([seed, 0x7E])
    made = []
    for _ in range(count):
        empty = np.zeros((3, batch, sequence), dtype=np.int64)
        labels = np.zeros(batch, dtype=np.int64)
        for row in range(batch):
            first = int(rng.integers(0, len(sentences()) - 1))
            pair = sentences()[first + 1][0] if rng.random() < 0.5 else None
            # the first row is the longest; the others end somewhere in their second half
            room = sequence if row == 0 else int(rng.integers(sequence // 2, sequence + 1))
            tokens.enable_truncation(max_length=room)
            encoded = tokens.encode(sentences()[first][0], pair)
            for array, values in zip(
                empty, (encoded.ids, encoded.attention_mask, encoded.type_ids), strict=True
            ):
                array[row, : len(values)] = values
            labels[row] = sentences()[first][1]
        ids, mask, types = empty
        made.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "labels": labels})
    return made
