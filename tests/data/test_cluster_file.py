"""A cluster from a TOML file: what is wrong is named with its file, its key and its value."""

from pathlib import Path

import pytest

from twinax.data.cluster import read
from twinax.errors import BadInput
from twinax.records import Cluster, Options

EXAMPLE = Path(__file__).parents[2] / "examples/cluster.toml"


def stated(tmp_path: Path, old: str = "", new: str = "") -> str:
    """The example with one piece of it changed."""
    text = EXAMPLE.read_text()
    assert old in text
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(old, new, 1))
    return str(file)


def test_the_example_is_a_cluster():
    found = read(str(EXAMPLE))
    assert (found.nodes, found.devices_per_node) == (8, 8)
    assert found.device.flops == 400e12 and found.device.memory_bytes == 80e9
    assert found.between is not None and found.between.latency_s == 10e-6


def test_it_survives_in_the_options_of_a_run():
    options = Options(cluster=read(str(EXAMPLE)))
    assert Options.model_validate_json(options.model_dump_json()) == options


def test_a_rate_may_be_left_out_and_a_single_node_needs_no_network(tmp_path):
    assert read(stated(tmp_path, "flops = 400e12", "")).device.flops is None
    file = tmp_path / "one.toml"
    file.write_text(EXAMPLE.read_text().split("[between]")[0].replace("nodes = 8", "nodes = 1", 1))
    assert read(str(file)).between is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("nodes = 8\n", "", "nodes is missing"),
        ("flops =", "flop =", "device.flop is no key of a cluster"),
        ("[inside]", "[insight]", "inside is missing"),
        ("nodes = 8", "nodes = 0", "nodes = 0"),
        ("nodes = 8", "nodes = -8", "nodes = -8"),
        ("nodes = 8", "nodes = 2.5", "nodes = 2.5"),
        ("nodes = 8", "nodes = true", "nodes = True"),
        ("nodes = 8", 'nodes = "8"', "nodes = '8'"),
        ("devices_per_node = 8", "devices_per_node = 1_000_000", "devices_per_node = 1000000"),
        ("400e12", "nan", "device.flops = nan"),
        ("400e12", "0", "device.flops = 0"),
        ("400e12", "400", "device.flops = 400"),  # TFLOP/s where FLOP/s are asked for
        ("80e9", "80", "device.memory_bytes = 80"),
        ("80e9", "inf", "device.memory_bytes = inf"),
        ("5e-6", "5", "inside.latency_s = 5"),
        ("5e-6", "-5e-6", "inside.latency_s = -5e-06"),
        ("50e9", "50", "between.bandwidth_bytes_s = 50"),
        ('"8 nodes of 8 H100"', '""', "name = ''"),
        ('"8 nodes of 8 H100"', "8", "name = 8"),
        ("[device]", "device = 3\n[devices]", "device = 3"),
        ("[between]", "[[between]]", "between = "),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, said):
    file = stated(tmp_path, old, new)
    with pytest.raises(BadInput) as raised:
        read(file)
    assert said in raised.value.what and file in raised.value.what
    assert "docs/cost-model.md" in raised.value.hint


def test_all_faults_are_named_at_once(tmp_path):
    file = tmp_path / "empty.toml"
    file.write_text("")
    with pytest.raises(BadInput, match="name is missing; nodes is missing; devices_per_node is missing"):
        read(str(file))


def test_nodes_need_a_network_and_an_end(tmp_path):
    file = tmp_path / "far.toml"
    file.write_text(EXAMPLE.read_text().split("[between]")[0])
    with pytest.raises(BadInput, match=r"8 nodes, but \[between\] is missing"):
        read(str(file))
    with pytest.raises(BadInput, match="720,000,000 in all"):
        read(stated(tmp_path, "nodes = 8\ndevices_per_node = 8", "nodes = 90000\ndevices_per_node = 8000"))


@pytest.mark.parametrize("text", ["nodes = ", "[device\n", "{}", "nodes: 8", "nodes = 8\nnodes = 8"])
def test_what_is_no_toml_is_said_with_its_place(tmp_path, text):
    file = tmp_path / "no.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match="is no TOML"):
        read(str(file))


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        read(str(tmp_path / "none.toml"))
    with pytest.raises(BadInput, match="Is a directory"):
        read(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="no text"):
        read(str(tmp_path / "binary"))
    (tmp_path / "deep").write_text("a = " + "[" * 100_000)
    with pytest.raises(BadInput, match="no TOML"):
        read(str(tmp_path / "deep"))


def test_names_from_the_file_move_no_cursor(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text('"\\u001b[31mred" = 1\n"' + "x" * 500 + '" = 2\n')
    with pytest.raises(BadInput) as raised:
        read(str(file))
    assert raised.value.what.isprintable() and len(raised.value.what) < 400


def test_numbers_are_numbers():
    with pytest.raises(ValueError, match="valid number"):
        Cluster.model_validate(
            {"name": "x", "nodes": 1, "devices_per_node": 1, "device": {"flops": "1e12", "memory_bytes": 1e9}}
        )
