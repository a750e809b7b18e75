"""Made prices have the volatility that they say; files of prices are read, or refused by row and column."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from twinax.data import ohlcv, prices
from twinax.errors import BadInput

DAYS = 20_000


@pytest.fixture(scope="module")
def made():
    return prices.generate(DAYS, 0)


def shocks(made):
    """The returns in units of the volatility that was said to be theirs."""
    returns = np.diff(np.log(made.prices.close))
    return (returns - prices.DRIFT) / made.volatility[1:]


def test_the_same_seed_makes_the_same_prices():
    first, again, other = (prices.generate(300, seed) for seed in (1, 1, 2))
    for name in ("open", "high", "low", "close", "volume", "dates"):
        assert np.array_equal(getattr(first.prices, name), getattr(again.prices, name))
    assert not np.array_equal(first.prices.close, other.prices.close)


def test_a_days_range_holds_its_open_and_close(made):
    p = made.prices
    assert len(p) == DAYS and (p.low > 0).all()
    assert (p.low <= np.minimum(p.open, p.close)).all() and (p.high >= np.maximum(p.open, p.close)).all()
    assert (np.diff(p.dates).astype(int) > 0).all() and np.is_busday(p.dates).all()


def test_the_volatility_that_is_said_is_that_of_the_returns(made):
    z = shocks(made)
    assert abs(z.mean()) < 0.03
    assert abs(z.var() - 1) < 0.06
    # Student's t with 6 degrees of freedom: kurtosis 3 + 6 / (6 − 4) = 6, not the normal 3
    assert 4.5 < np.mean(z**4) / z.var() ** 2 < 9
    # whatever the regime and whatever the day before was like
    for regime in range(3):
        assert abs(z[made.regime[1:] == regime].var() - 1) < 0.12
    after_large = np.abs(z[:-1]) > 2
    assert abs(z[1:][after_large].var() - 1) < 0.2


def test_another_volatility_would_be_noticed(made):
    """The check above can fail: regimes' volatilities exchanged, or the feedback of shocks left out."""
    returns = np.diff(np.log(made.prices.close)) - prices.DRIFT
    flat = returns / prices.DAILY[made.regime[1:]]
    assert abs(flat[1:][np.abs(flat[:-1]) > 2].var() - 1) > 0.2
    wrong = returns / made.volatility[1:] / (prices.DAILY[::-1] / prices.DAILY)[made.regime[1:]]
    assert abs(wrong[made.regime[1:] == 0].var() - 1) > 0.5


def test_volatility_clusters_and_returns_do_not(made):
    returns = np.diff(np.log(made.prices.close))

    def correlation(x, lag):
        return np.corrcoef(x[lag:], x[:-lag])[0, 1]

    assert all(correlation(np.abs(returns), lag) > 0.1 for lag in (1, 5, 20))
    assert abs(correlation(returns, 1)) < 0.03


def test_regimes_persist_as_stated(made):
    stayed = made.regime[1:] == made.regime[:-1]
    for regime, chance in enumerate(prices.STAY):
        assert stayed[made.regime[:-1] == regime].mean() == pytest.approx(chance, abs=0.01)


def test_the_days_range_measures_the_days_volatility(made):
    """Parkinson's estimate of a random walk's variance is unbiased, but for the steps between 96 looks."""
    p, day = made.prices, 1 - prices.NIGHT
    parkinson = np.log(p.high / p.low) ** 2 / (4 * np.log(2))
    assert 0.85 < np.mean(parkinson / (made.volatility**2 * day)) < 1.0


# --- files -----------------------------------------------------------------------------------------

GOOD = """Date,Open,High,Low,Close,Volume
2020-01-02,10,11,9,10.5,1000
2020-01-03,10.5,12,10,11,0
2020-01-06,11,11.5,10.5,11,1.5e3
"""


def file(folder, text, name="prices.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path):
    found = ohlcv.read(file(tmp_path, GOOD))
    assert found.dates.astype(str).tolist() == ["2020-01-02", "2020-01-03", "2020-01-06"]
    assert found.high.tolist() == [11, 12, 11.5] and found.volume.tolist() == [1000, 0, 1500]


def test_columns_in_any_case_and_order_with_others_between(tmp_path):
    text = (
        "\ufeffticker, CLOSE ,low,HIGH,open,date\n"
        "A,10.5,9,11,10,2020-01-02 00:00:00-05:00\n\n"
        "A,11,10,12,10.5,2020-01-03\n"
    )
    found = ohlcv.read(file(tmp_path, text))
    assert found.volume is None
    assert (found.open.tolist(), found.close.tolist()) == ([10, 10.5], [10.5, 11])


def test_a_split_is_no_return(tmp_path):
    text = """Date,Open,High,Low,Close,Adj Close
2020-01-02,100,110,90,100,50
2020-01-03,50,55,45,50,50
"""
    found = ohlcv.read(file(tmp_path, text))
    assert found.close.tolist() == [50, 50] and found.high.tolist() == [55, 55]


FAULTS = [
    (("Low", "Lo"), "lacks the column low"),
    (("Low,Close", "L,C"), "lacks the columns low, close"),
    (("Volume", "open"), "has the column open twice"),
    (("10,11,9", "ten,11,9"), "line 2, column open: 'ten' is no number"),
    (("11,9,10.5", "11,9,"), "line 2, column close: '' is no number"),
    (("12,10", "12,nan"), "line 3, column low: 'nan' is not finite"),
    (("12,10", "inf,10"), "line 3, column high: 'inf' is not finite"),
    (("2020-01-03", "03.01.2020"), "line 3, column date: '03.01.2020' is no date"),
    (("2020-01-03", "2020-13-01"), "line 3, column date: '2020-13-01' is no date"),
    (("2020-01-03", "2020-01-02"), "line 3, column date: 2020-01-02 comes after 2020-01-02"),
    (("2020-01-06", "2019-01-06"), "line 4, column date: 2019-01-06 comes after 2020-01-03"),
    (("10,11,9", "10,11,0"), "line 2, column low: 0 must be above 0"),
    (("10.5,1000", "-10.5,1000"), "line 2, column close: -10.5 must be above 0"),
    (("10.5,1000", "10.5,-1"), "line 2, column volume: -1 must be at least 0"),
    (("11,9,", "9,11,"), "line 2: high 9 is below low 11"),
    (("10,11,9", "12,11,9"), "line 2: open 12 or close 10.5 lies outside low 9 to high 11"),
    ((",1000", ""), "line 2: 5 values for 6 columns"),
]


@pytest.mark.parametrize(("change", "words"), FAULTS, ids=[words for _, words in FAULTS])
def test_a_fault_is_named_with_its_place(tmp_path, change, words):
    text = GOOD.replace(*change, 1)
    assert text != GOOD
    path = file(tmp_path, text)
    with pytest.raises(BadInput) as caught:
        ohlcv.read(path)
    assert words in caught.value.what and str(path) in caught.value.what and caught.value.hint


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(tmp_path, delimiter):
    found = ohlcv.read(file(tmp_path, GOOD.replace(",", delimiter)))
    assert found.close.tolist() == ohlcv.read(file(tmp_path, GOOD)).close.tolist()


def test_decimal_commas_are_named(tmp_path):
    with pytest.raises(BadInput, match="line 2, column open: '10,5' is no number") as caught:
        ohlcv.read(file(tmp_path, GOOD.replace(",", ";").replace("10;11", "10,5;11", 1)))
    assert "1234.5" in caught.value.hint


def test_lines_are_those_of_the_file(tmp_path):
    with pytest.raises(BadInput, match="line 4, column open"):
        ohlcv.read(file(tmp_path, GOOD.replace("\n", "\n\n\n", 1).replace("10,11", "ten,11", 1)))


def test_a_close_that_rounds_past_the_high_stretches_the_range(tmp_path):
    found = ohlcv.read(file(tmp_path, GOOD.replace("11,9,10.5", "11,9,11.001")))
    assert found.high[0] == 11.001


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "it has no columns"), (b"\xff\xfe\x00\xd8", "is no CSV text")]
)
def test_what_is_no_text_is_refused(tmp_path, content, words):
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        ohlcv.load(str(path))


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            ohlcv.load(str(path))


# --- other sources ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ohlcv.INDICES)
def test_real_indices_are_read_where_arch_is_installed(name):
    pytest.importorskip("arch")
    found = ohlcv.load(name)
    assert len(found) == 5031 and str(found.dates[0]) == "1999-01-04" and str(found.dates[-1]) == "2018-12-31"
    assert np.median(found.volume) > 1e8


def test_without_arch_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "arch.data.sp500", None)
    with pytest.raises(BadInput) as caught:
        ohlcv.load("sp500")
    assert "arch, which is not installed" in caught.value.what and "pip install arch" in caught.value.hint


class Table:
    """As much of a Hugging Face data set as is used."""

    def __init__(self, rows):
        self.rows, self.column_names = rows, list(rows[0])

    def __iter__(self):
        return iter(self.rows)


def test_hugging_face_data_have_the_same_columns(monkeypatch):
    rows = [
        {"date": "2020-01-02", "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "x": None},
        {"date": "2020-01-03", "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "x": None},
    ]
    asked = []
    fake = SimpleNamespace(load_dataset=lambda name, split: asked.append((name, split)) or Table(rows))
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert ohlcv.load("hf:a/b").close.tolist() == [10.5, 10.0]
    assert asked == [("a/b", "train")]
    rows[1]["low"] = float("nan")
    with pytest.raises(BadInput, match="hf:a/b, row 2, column low: 'nan' is not finite"):
        ohlcv.load("hf:a/b")


def test_hugging_face_without_the_package_or_the_data_set(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match="pip install datasets"):
        ohlcv.load("hf:a/b")

    def fail(name, split):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fail))
    with pytest.raises(BadInput, match="hf:a/b cannot be loaded: no route"):
        ohlcv.load("hf:a/b")
