"""Collectives read from HLO text by the parser alone, which needs no framework: groups, sizes, loops, sends."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import twinax.frameworks
from twinax.frameworks.parallel import Traffic

FILE = Path(twinax.frameworks.__file__).with_name("jax_parallel") / "counting.py"


def load() -> ModuleType:
    """The module without its package, which imports jax."""
    spec = importlib.util.spec_from_file_location("counting_alone", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclass looks its annotations up
    spec.loader.exec_module(module)
    return module


counting = load()


def program(*lines: str, before: str = "", devices: str = "num_partitions=8") -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule jit_f, {devices}\n{before}\nENTRY %main (p: f32[8]) -> f32[8] {{\n{body}\n}}\n"


def summed(groups: str, shape: str = "f32[16]{0}") -> str:
    return f"%x = {shape} all-reduce(%p), channel_id=1, {groups}, use_global_device_ids=true, to_apply=%add"


def only(text: str, rank: int = 0) -> Traffic:
    (found,) = counting.collectives(text, rank)
    return found


def test_the_parser_imports_no_framework():
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('c', sys.argv[1]); "
        "m = u.module_from_spec(s); sys.modules['c'] = m; s.loader.exec_module(m); "
        "print(sorted({'jax', 'torch', 'flax'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(FILE)], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# --- who takes part --------------------------------------------------------------------------------

TURNED = "replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([4,2]T(1,0)) {'axis_0'}"


@pytest.mark.parametrize(
    ("groups", "ranks"),
    [
        ("replica_groups={{0,1,2},{3,4,5,6,7}}", 3),
        ("replica_groups={{3,4},{1,0,2,5}}", 4),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups={}", 8),
        ("use_global_device_ids=true", 8),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", 4),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", 8),
        (TURNED, 2),
        (TURNED.replace("{'axis_0'}", "{'axis_1'}"), 4),
        ("replica_groups=mesh['a'=8], device_ids=(0,2,4,6,1,3,5,7) {'a'}", 8),
        ("replica_groups=mesh['a'=8] {'a':(1)2}", 2),  # a part of an axis
        ("replica_groups=mesh['a'=4,'b'=2] {'b','a':(2)2}", 4),
    ],
)
def test_every_form_of_groups_says_how_many_take_part(groups, ranks):
    assert only(program(summed(groups))) == Traffic("all_reduce", 64, ranks, 1)


def test_the_group_is_the_ranks_own():
    text = program(summed("replica_groups={{0,1},{2,3,4,5,6,7}}"))
    assert (only(text, 1).ranks, only(text, 7).ranks) == (2, 6)
    assert counting.collectives(program(summed("replica_groups={{10,1}}")), 0) == []  # 10 is not 0


def test_everybody_is_as_many_as_the_program_says():
    line = summed("replica_groups={}")
    assert only(program(line, devices="num_partitions=3")).ranks == 3
    assert only(program(line, devices="replica_count=5")).ranks == 5
    assert counting.collectives(program(line, devices="is_scheduled=true")) == []  # one device sends nothing


@pytest.mark.parametrize(
    "groups",
    ["replica_groups={0,1}", "replica_groups=@mesh {'a'}", "replica_groups=[2]", "replica_groups={{0 to 3}}"],
)
def test_groups_in_an_unknown_form_are_an_error_with_the_text(groups):
    with pytest.raises(ValueError, match="unknown form") as raised:
        counting.collectives(program(summed(groups)))
    assert groups in str(raised.value)


# --- how much --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("f64[2,3]{1,0}", 48),
        ("bf16[10]{0}", 20),
        ("pred[7]{0}", 7),
        ("f8e4m3fn[5]{0}", 5),
        ("c64[3]{0}", 24),
        ("f32[0,4]{1,0}", 0),
        ("f32[8,4]{1,0:T(8,128)S(1)}", 128),
        ("(f32[2]{0}, (s64[3]{0}, u8[1]{0}), /*index=2*/f16[4]{0})", 8 + 24 + 1 + 8),
        ("(f32[2]{0}, token[])", 8),
    ],
)
def test_bytes_of_a_shape(shape, size):
    assert only(program(summed("replica_groups={}", shape))).bytes == size


def test_what_is_scattered_is_counted_whole():
    attributes = "replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add"
    plain = f"%x = f32[4]{{0}} reduce-scatter(%p), {attributes}"
    pair = f"%x = (f32[4]{{0}}, bf16[2]{{0}}) reduce-scatter(%p, %q), {attributes}"
    assert only(program(plain)) == Traffic("reduce_scatter", 16 * 4, 4, 1)
    assert only(program(pair)) == Traffic("reduce_scatter", (16 + 4) * 4, 4, 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "%x = (f32[2]{0}, f32[16]{0}) all-gather-start(%p), replica_groups={}, dimensions={0}",
            Traffic("all_gather", 64, 8, 1),
        ),
        ("%x = (f32[2], f32[3]) all-reduce-start(%p, %q), replica_groups={}", Traffic("all_reduce", 20, 8, 1)),
        (
            "%x = ((f32[64]{0}), f32[8]{0}) reduce-scatter-start(%p), replica_groups={}",
            Traffic("reduce_scatter", 256, 8, 1),
        ),
    ],
)
def test_what_is_begun_counts_once(line, expected):
    kind = line.split("-start")[0].split()[-1]
    ended = f"%y = f32[16]{{0}} {kind}-done(%x)"
    assert only(program(line, ended)) == expected


def test_a_bracket_that_is_not_closed_is_an_error():
    with pytest.raises(ValueError, match="not closed"):
        counting.collectives(program("%x = (f32[2]{0}, f32[3]{0} all-reduce(%p)"))


# --- sends -----------------------------------------------------------------------------------------

RING = "%x = f32[4]{0} collective-permute(%p), source_target_pairs={{0,1},{1,2},{2,0}}"
LINE = "%x = f32[4]{0} collective-permute(%p), source_target_pairs={{0,1},{1,2},{3,3}}"


def test_only_a_source_sends():
    assert [only(program(RING), rank) for rank in range(3)] == [Traffic("send", 16, 3, 1)] * 3
    assert only(program(LINE), 1) == Traffic("send", 16, 4, 1)
    assert counting.collectives(program(LINE), 2) == []  # it only receives
    assert counting.collectives(program(LINE), 3) == []  # to itself
    assert counting.collectives(program(RING), 12) == []  # neither 1 nor 2


# --- how often -------------------------------------------------------------------------------------


def loop(trips: int | None, body: str) -> tuple[str, str]:
    stated = "{}" if trips is None else f'{{"known_trip_count":{{"n":"{trips}"}},"known_init_step":{{}}}}'
    computations = (
        "\n%body (t: f32[8]) -> f32[8] {\n  " + body + "\n}\n\n%cond (t: f32[8]) -> pred[] {\n"
        "  ROOT %l = pred[] constant(true)\n}\n"
    )
    return computations, f"%w = f32[8]{{0}} while(%p), condition=%cond, body=%body, backend_config={stated}"


def test_a_loop_multiplies():
    before, line = loop(7, RING)
    assert counting.collectives(program(line, RING, before=before)) == [Traffic("send", 16, 3, 8)]


def test_a_loop_that_runs_never_sends_nothing():
    before, line = loop(0, RING)
    assert [t for t in counting.collectives(program(line, before=before)) if t.count] == []


def test_a_loop_without_its_length_raises_where_it_sends():
    before, line = loop(None, RING)
    with pytest.raises(ValueError, match="how often it runs"):
        counting.collectives(program(line, before=before))
    before, line = loop(None, "%n = f32[8]{0} negate(%t)")
    assert counting.collectives(program(line, before=before)) == []


def test_equal_ones_are_counted_and_different_ones_kept_apart():
    two, other = summed("replica_groups={}"), summed("replica_groups={}", "f32[2]{0}")
    found = counting.collectives(program(two, two, other))
    assert found == [Traffic("all_reduce", 64, 8, 2), Traffic("all_reduce", 8, 8, 1)]
