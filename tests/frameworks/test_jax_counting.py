"""Collectives read from HLO: texts as XLA prints them on a CPU and on a GPU, and what must not pass unseen."""

import pytest

from twinax.frameworks.jax_parallel.counting import collectives
from twinax.frameworks.parallel import Traffic


def program(*lines: str, before: str = "", devices: int = 4) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"""HloModule jit_step, is_scheduled=true, num_partitions={devices}

%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}
{before}
ENTRY %main.9_spmd (param: f32[8]) -> f32[8] {{
  %param = f32[8]{{0}} parameter(0), sharding={{devices=[4]<=[4]}}
{body}
}}
"""


ALL = "channel_id=1, replica_groups={{0,1,2,3}}, use_global_device_ids=true"
LINES = {
    "all-reduce": (
        f"%x = f32[3,8]{{1,0}} all-reduce(%param), {ALL}, to_apply=%add",
        Traffic("all_reduce", 96, 4, 1),
    ),
    "of several arrays": (
        f"%x = (f64[], bf16[10]{{0}}, /*index=2*/pred[3]{{0}}) all-reduce(%a, %b, %c), {ALL}, to_apply=%add",
        Traffic("all_reduce", 8 + 20 + 3, 4, 1),
    ),
    "begun, on a GPU": (
        f"%x = (f32[8]{{0}}, s64[2]{{0}}) all-reduce-start(%a, %b), {ALL}, to_apply=%add",
        Traffic("all_reduce", 48, 4, 1),
    ),
    "ended": ("%x = f32[8]{0} all-reduce-done(%y)", None),
    "in two groups": (
        "%x = f32[8]{0} all-reduce(%param), replica_groups={{0,2},{1,3}}, to_apply=%add",
        Traffic("all_reduce", 32, 2, 1),
    ),
    "in two groups, tiled": (
        "%x = f32[8]{0} all-gather(%param), replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}",
        Traffic("all_gather", 32, 2, 1),
    ),
    "along axes of a mesh": (
        "%x = f32[8]{0} all-gather(%param), replica_groups=mesh['data'=2,'tensor'=2] {'tensor'}",
        Traffic("all_gather", 32, 2, 1),
    ),
    "of everybody": (
        "%x = f32[8]{0} all-gather(%param), replica_groups={}, dimensions={0}",
        Traffic("all_gather", 32, 4, 1),
    ),
    "in groups of one": ("%x = f32[8]{0} all-reduce(%param), replica_groups={{0},{1},{2},{3}}", None),
    "in others' group": ("%x = f32[8]{0} all-reduce(%param), replica_groups={{2,3}}, to_apply=%add", None),
    "gather": (
        "%x = f32[8,4]{1,0:T(8,128)} all-gather(%param), replica_groups=[1,4]<=[4], dimensions={0}",
        Traffic("all_gather", 128, 4, 1),
    ),
    "gather, begun": (
        "%x = (f32[2]{0}, f32[8]{0}) all-gather-start(%param), replica_groups=[1,4]<=[4], dimensions={0}",
        Traffic("all_gather", 32, 4, 1),
    ),
    "gather of two, begun": (
        "%x = ((f32[2]{0}, f32[1]{0}), (f32[8]{0}, f32[4]{0})) all-gather-start(%a, %b), replica_groups={}",
        Traffic("all_gather", 48, 4, 1),
    ),
    "scatter": (
        "%x = f32[2]{0} reduce-scatter(%param), replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%add",
        Traffic("reduce_scatter", 32, 4, 1),
    ),
    "scatter, begun": (
        "%x = ((f32[8]{0}), f32[2]{0}, u32[]) reduce-scatter-start(%param), replica_groups=[1,4]<=[4]",
        Traffic("reduce_scatter", 32, 4, 1),
    ),
    "all-to-all in parts": (
        "%x = (f32[2]{0}, f32[2]{0}, f32[2]{0}, f32[2]{0}) all-to-all(%a, %b, %c, %d), replica_groups={}",
        Traffic("all_to_all", 32, 4, 1),
    ),
    "send": (
        "%x = f32[8]{0} collective-permute(%param), channel_id=1, source_target_pairs={{0,1},{1,2}}",
        Traffic("send", 32, 3, 1),
    ),
    "send, begun": (
        "%x = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%param), "
        "source_target_pairs={{0,1},{1,2}}",
        Traffic("send", 32, 3, 1),
    ),
    "only received": ("%x = f32[8]{0} collective-permute(%param), source_target_pairs={{1,0}}", None),
    "to itself": ("%x = f32[8]{0} collective-permute(%param), source_target_pairs={{0,0},{1,2}}", None),
    "broadcast": (
        "%x = f32[8]{0} collective-broadcast(%param), replica_groups={{0,1,2,3}}",
        Traffic("broadcast", 32, 4, 1),
    ),
    "its name elsewhere": (
        '%x = f32[8]{0} fusion(%all-reduce.1), kind=kLoop, calls=%add, metadata={op_name="psum all-reduce(a)"}',
        None,
    ),
}


def test_on_a_cpu_an_instruction_says_over_how_many_arrays_it_is():
    reduced = f"%x = (f32[8]{{0}}, f32[2]{{0}}, f32[8]{{0}}) all-reduce(%a, %b, %c), {ALL}, to_apply=%add"
    scattered = "%y = (f32[2]{0}, f32[1]{0}) reduce-scatter(%a, %b), replica_groups=[1,4]<=[4]"
    turned = LINES["all-to-all in parts"][0].replace("%x", "%z")
    found = collectives(program(reduced, scattered, turned), apart=True)
    assert set(found) == {
        Traffic("all_reduce", 72, 4, 1, arrays=3),
        Traffic("reduce_scatter", 48, 4, 1, arrays=2),
        Traffic("all_to_all", 32, 4, 1),
    }


@pytest.mark.parametrize("line", LINES)
def test_an_instruction(line: str):
    text, expected = LINES[line]
    assert collectives(program(text)) == ([] if expected is None else [expected])


def loop(name: str, inner: str, trips: int | None, carried: str = "%t") -> tuple[str, str]:
    """The computations of a loop, and the line that runs it, as XLA's CPU compiler prints it."""
    stated = "" if trips is None else f',"known_trip_count":{{"n":"{trips}"}}'
    bodies = f"""
%{name}.cond_spmd.clone (p: (s32[], f32[8])) -> pred[] {{
  ROOT %less = pred[] compare(%i, %n), direction=LT
}}

%{name}.body_spmd.clone (p: (s32[], f32[8])) -> (s32[], f32[8]) {{
  {inner}
}}
"""
    line = (
        f"%w = (s32[], f32[8]{{0}}) while({carried}), condition=%{name}.cond_spmd.clone, "
        f'body=%{name}.body_spmd.clone, metadata={{op_name="jit(step)/while" stack_frame_id=64}}, '
        f'backend_config={{"dynamic_variables":[],"known_init_step":{{"init":"0","step":"1"}}{stated}}}'
    )
    return bodies, line


SEND = "%s = f32[8]{0} collective-permute(%y), source_target_pairs={{0,1},{1,2},{2,3}}"


def test_what_is_in_a_loop_counts_as_often_as_it_runs():
    inside, line = loop("inner", SEND, 3)
    outside, outer = loop("outer", line, 5, "(%all-reduce.7, %reduce-scatter.2)")
    found = collectives(program(outer, SEND, before=inside + outside))
    assert found == [Traffic("send", 32, 4, 3 * 5 + 1)]


def test_a_loop_of_unknown_length_is_an_error_only_where_something_is_sent():
    bodies, line = loop("open", SEND, None)
    with pytest.raises(ValueError, match="does not say how often it runs"):
        collectives(program(line, before=bodies))
    bodies, line = loop("open", "%s = f32[8]{0} negate(%y)", None)
    assert collectives(program(line, before=bodies)) == []


def test_calls_and_conditionals_are_followed():
    branches = "".join(
        f"\n%{name} (p: f32[8]) -> f32[8] {{\n"
        f"  %x = f32[{size}]{{0}} all-reduce(%p), replica_groups={{{{0,1,2,3}}}}, to_apply=%add\n}}\n"
        for name, size in (("small", 2), ("large", 6))
    )
    for how in (
        "branch_computations={%small, %large}",
        "true_computation=%large, false_computation=%small",
    ):
        line = f"%c = f32[8]{{0}} conditional(%all-reduce.3, %x, %y), {how}"
        assert collectives(program(line, before=branches)) == [Traffic("all_reduce", 24, 4, 1)]
    called = "%c = f32[8]{0} call(%all-reduce.3), to_apply=%large"
    begun = "%c = ((f32[8]), f32[8]) async-start(%x), calls=%small, control-predecessors={%large}"
    found = collectives(program(called, begun, before=branches))
    assert found == [Traffic("all_reduce", 24, 4, 1), Traffic("all_reduce", 8, 4, 1)]


def test_what_it_cannot_read_is_an_error():
    with pytest.raises(ValueError, match="replica_groups in an unknown form"):
        collectives(program("%x = f32[8]{0} all-reduce(%param), replica_groups=<new>, to_apply=%add"))
    with pytest.raises(ValueError, match="no entry computation"):
        collectives("module @jit_step { }")
