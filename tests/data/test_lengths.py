"""Lengths from a file or a distribution; what is no length is named with its place."""

import pytest

from twinax.data.lengths import EXAMPLES, draw, read
from twinax.errors import BadInput


def test_drawn_lengths_are_repeatable_and_within_bounds():
    lengths = draw(128, seed=0)
    assert len(lengths) == EXAMPLES and draw(128, seed=0) == lengths != draw(128, seed=1)
    assert min(lengths) >= 1 and max(lengths) == 128
    assert sorted(lengths)[EXAMPLES // 2] == pytest.approx(128 / 3, rel=0.1)
    assert set(draw(1, seed=0)) == {1}


def test_a_file_may_separate_as_it_likes(tmp_path):
    file = tmp_path / "lengths.txt"
    file.write_text("12\n7, 9\t30\n")
    assert read(str(file)) == (12, 7, 9, 30)


@pytest.mark.parametrize(
    ("text", "said"),
    [("12\n-3", "Length 2"), ("0", "Length 1"), ("12 x", "'x'"), ("", "holds no lengths"), ("1.5", "'1.5'")],
)
def test_what_is_no_length_is_named(tmp_path, text, said):
    file = tmp_path / "lengths.txt"
    file.write_text(text)
    with pytest.raises(BadInput, match=said):
        read(str(file))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        read(str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="no text"):
        read(str(tmp_path / "binary"))
