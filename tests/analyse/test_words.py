"""Numbers in words."""

import pytest

from twinax.analyse import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (3310.4, "3,310 s"),
        (1.234, "1.23 s"),
        (0.871, "871 ms"),
        (0.00499, "4.99 ms"),
        (45.1e-6, "45.1 µs"),
        (7e-9, "7.00 ns"),
        (None, "–"),
    ],
)
def test_seconds_have_three_digits_and_a_unit(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(512, "512 bytes"), (1.5 * 2**20, "1.50 MiB"), (1.92 * 2**30, "1.92 GiB"), (None, "–")]
)
def test_memory_has_a_binary_prefix(value: float | None, text: str) -> None:
    assert words.memory(value) == text


def test_quantities_have_a_decimal_prefix() -> None:
    assert words.quantity(85e9, "FLOP/s") == "85.0 GFLOP/s"
    assert words.quantity(1.2e13, "FLOP/s") == "12.0 TFLOP/s"
    assert words.quantity(12, "B/s") == "12.0 B/s"


def test_an_error_that_is_not_a_number_is_told() -> None:
    assert words.error(None) == "not comparable"
    assert words.error(0.0) == "0"
    assert words.error(3.04e-16) == "3.0e-16"


def test_small_shares_do_not_round_to_nothing() -> None:
    assert words.percent(0.0) == "0 %"
    assert words.percent(0.0001) == "under 0.1 %"
    assert words.percent(0.004) == "0.4 %"
    assert words.percent(0.25) == "25 %"


def test_a_long_list_is_counted() -> None:
    assert words.listing([]) == "none"
    assert words.listing(["a"]) == "a"
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing(list("abcdef"), most=2) == "a, b and 4 more"


def test_terminal_and_direction_commands_become_visible() -> None:
    assert words.printable("a\x1b[31m\u202eb\nc") == "a\ufffd[31m\ufffdb\ufffdc"


def test_an_interval_that_knows_nothing_is_short():
    assert words.between(0.9412, 1.05) == "0.94 to 1.05"
    assert words.between(1e-7, 11675984.0, 3) == "<0.01 to >100"
