"""What the two sources look like, and what a beginner goes through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Literal

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.measure.clock import DISTURBED
from twinax.records import Json, Record, Run

MARGIN = 0.1
"""Share by which figures must differ before one side is called the shorter, smaller or sooner one."""

LEAST_S = 0.1  # below, a process is too short for the kernel's account of who used the CPU
TIMES = {
    "import": "importing",
    "result": "a first result",
    "step": "a training step",
    "compiled": "a compiled one",
}
SIDES = ("torch", "jax")

Choice = Literal["torch", "jax", "alike", "undecided"]


def findings(run: Run) -> list[Finding]:
    """What follows from the sources, from fresh processes, installed files and tracebacks."""
    code = [r for r in run.of("code") if "sides" in r.measurements]
    hour = {r.cell.side: r for r in run.of("first_hour")}
    first_hour = (*_times(hour), *_size(hour), *_tracebacks(hour))
    return [*(finding for record in code for finding in _code(record)), *first_hour]


# --- code --------------------------------------------------------------------------------------------


def _code(record: Record) -> Iterator[Finding]:
    """One finding per side, and one that compares."""
    sides = record.measurements["sides"]
    for side in SIDES:
        yield _of_one_side(side, sides[side], record)
    torch, jax = (sides[side]["figures"] for side in SIDES)
    if torch and jax:
        yield _compared(torch, jax, record)


def _of_one_side(side: str, found: dict[str, Json], record: Record) -> Finding:
    known = found["figures"]
    if known is None:
        title, verdict = f"{words.SIDES[side]}'s source was not read. {found['said']}", "not read"
    else:
        threaded = [
            f"{what} at {words.count(sum(known[key].values()), 'place')}"
            for key, what in (("state", "state"), ("keys", "random keys"))
            if sum(known[key].values())
        ]
        title = (
            f"{words.SIDES[side]}'s source: {words.count(known['statements'], 'logical line')}, "
            f"{words.count(known['tokens'], 'token')}, cyclomatic complexity {known['complexity']:,}, "
            f"{words.count(len(known['api']), 'name')} of the framework; "
            f"handed on by name: {words.listing(threaded) if threaded else 'neither state nor random keys'}."
        )
        verdict = "read"
    return Finding(
        kind="code",
        title=title,
        verdict=verdict,
        severity="note" if known else "warning",
        evidence=(record.cell.id,),
        figures={"about": "side", "side": side, "figures": known},
    )


def _compared(torch: dict[str, Json], jax: dict[str, Json], record: Record) -> Finding:
    """Which side is the shorter one, and what makes most of the difference."""
    blocks = sorted(record.measurements["blocks"], key=lambda block: -abs(block["extra"]))
    shorter = smaller(torch["tokens"], jax["tokens"])
    alike = f"; the two are within {words.percent(MARGIN)} of each other" if shorter == "alike" else ""
    return Finding(
        kind="code",
        title=f"PyTorch's side has {words.count(torch['statements'], 'logical line')} and "
        f"{words.count(torch['tokens'], 'token')}, JAX's {jax['statements']:,} and {jax['tokens']:,}{alike}"
        f"{_where(blocks)}.",
        verdict=shorter if shorter == "alike" else f"{shorter} shorter",
        evidence=(record.cell.id,),
        figures={"about": "blocks", "torch": torch, "jax": jax, "blocks": blocks},
    )


def smaller(torch: float, jax: float) -> Choice:
    """The side with the smaller figure; ``alike`` within :data:`MARGIN` of each other."""
    if max(torch, jax) <= (1 + MARGIN) * min(torch, jax):
        return "alike"
    return "torch" if torch < jax else "jax"


def _where(blocks: list[dict[str, Json]]) -> str:
    """``; most of the difference is in Bottleneck.__init__``: the idea that costs the longer side most."""
    total = sum(block["extra"] for block in blocks)
    if not total:
        return ""
    ideas: dict[str, list[dict[str, Json]]] = {}
    for block in blocks:
        ideas.setdefault(_idea(block), []).append(block)
    sign = 1 if total > 0 else -1
    extras = {idea: sign * sum(b["extra"] for b in found) for idea, found in ideas.items()}
    idea = max(extras, key=lambda name: extras[name])
    share = extras[idea] / abs(total)
    longest = max(ideas[idea], key=lambda block: sign * block["extra"])
    name = longest["title"] if sign * longest["extra"] >= 0.8 * extras[idea] else idea
    alone = [side for side in SIDES if all(block[words.OTHER[side]] is None for block in ideas[idea])]
    only = f", which only {words.SIDES[alone[0]]}'s side has" if alone else ""
    part = (
        "most of the difference"
        if share > 0.5
        else f"the largest part of the difference ({words.percent(share)})"
    )
    return f"; {part} is in {name}{only}"


def _idea(block: dict[str, Json]) -> str:
    """The class that a block belongs to, or the block itself: what stands before the first dot."""
    paths = [block[side]["path"].partition(".")[0] for side in SIDES if block[side]]
    return " / ".join(dict.fromkeys(paths))


# --- first hour --------------------------------------------------------------------------------------


def _times(records: Mapping[str, Record]) -> Iterator[Finding]:
    """How long fresh processes take, from their start to what they print."""
    known = {side: r.measurements["times"] for side, r in records.items() if r.measurements.get("times")}
    if not known:
        return
    whats = dict.fromkeys(what for times in known.values() for what in times)
    rows = [{"what": what, **{s: _sampled(known.get(s, {}).get(what, [])) for s in SIDES}} for what in whats]
    for row in rows:
        row["sooner"] = sooner(row["torch"], row["jax"])
    told = [f"{TIMES[row['what']]} {_seconds(row)}" for row in rows if row["what"] in TIMES and _seconds(row)]
    counts = [len(row[s]["samples_s"]) for row in rows for s in known]
    rule = (
        " One process each: which side is sooner is not decided."
        if max(counts) < 2
        else " Where no side is named, the processes overlap, are within "
        f"{words.percent(MARGIN)}, were disturbed, or there was one of each."
    )
    by = {row["what"]: row["sooner"] for row in rows}
    chosen = by.get("step", "undecided")
    left_out = {what: why for r in records.values() for what, why in r.measurements.get("left_out", {}).items()}
    yield Finding(
        kind="first_hour",
        title=f"From the start of a fresh process: {'; '.join(told) or 'no program came to its end'}."
        f"{rule if len(known) == 2 else ''}",
        verdict=f"{chosen} sooner" if chosen in SIDES else chosen,
        evidence=tuple(r.cell.id for r in records.values()),
        figures={"about": "times", "rows": rows, "left_out": left_out},
    )


def _sampled(samples: list[dict[str, Json]]) -> dict[str, Json]:
    """The samples of one kind of process on one side, and their median; None where there is none."""
    seconds = [s["seconds"] for s in samples if s["seconds"] is not None]
    busy = [s["foreign_cpu"] for s in samples if s["seconds"] is not None and s["seconds"] >= LEAST_S]
    return {
        "samples_s": seconds,
        "seconds": median(seconds) if seconds else None,
        "disturbed": max(busy, default=0.0) > DISTURBED,
        "statements": next((s["statements"] for s in samples), None),
        "said": next((s["said"] for s in samples if s["said"]), ""),
    }


def sooner(torch: dict[str, Json], jax: dict[str, Json]) -> Choice:
    """The side whose slowest process was done before the other's fastest, by :data:`MARGIN` or more.

    Nothing is decided by one process, nor while others used the CPU.
    """
    a, b = torch["samples_s"], jax["samples_s"]
    if min(len(a), len(b)) < 2 or torch["disturbed"] or jax["disturbed"]:
        return "undecided"
    if max(a) * (1 + MARGIN) < min(b):
        return "torch"
    if max(b) * (1 + MARGIN) < min(a):
        return "jax"
    return "alike" if smaller(median(a), median(b)) == "alike" else "undecided"


def _seconds(row: dict[str, Json]) -> str:
    """``PyTorch 1.01 s, JAX 737 ms (JAX sooner)``; "" where no side has a time."""
    times = [(words.SIDES[side], row[side]["seconds"]) for side in SIDES]
    told = ", ".join(f"{name} {words.seconds(value)}" for name, value in times if value is not None)
    return f"{told} ({words.SIDES[row['sooner']]} sooner)" if row["sooner"] in SIDES else told


def _size(records: Mapping[str, Record]) -> Iterator[Finding]:
    """What the frameworks take on the disk."""
    known = {side: r.measurements["install"] for side, r in records.items() if "install" in r.measurements}
    if not known:
        return
    told = [
        f"{words.SIDES[side]} takes {words.memory(found['bytes'])} in "
        f"{words.count(len(found['packages']), 'package')}, {words.memory(found['own_bytes'])} its own "
        f"({found['build']})"
        for side, found in known.items()
    ]
    both = [found["bytes"] for found in known.values()]
    chosen = smaller(*both) if len(both) == 2 else "undecided"
    yield Finding(
        kind="first_hour",
        title=f"Installed, with all that it needs: {'; '.join(told)}.",
        verdict=f"{chosen} smaller" if chosen in SIDES else chosen,
        evidence=tuple(records[side].cell.id for side in known),
        figures={"about": "size", **known},
    )


def _tracebacks(records: Mapping[str, Record]) -> Iterator[Finding]:
    """What beginners read after a mistake, and which mistakes go unnoticed."""
    known = {side: r.measurements["mistakes"] for side, r in records.items() if r.measurements.get("mistakes")}
    if not known:
        return
    titles = {row["mistake"]: row["title"] for rows in known.values() for row in rows}
    rows = [
        {
            "mistake": mistake,
            "title": title,
            **{s: next((r for r in known.get(s, []) if r["mistake"] == mistake), None) for s in SIDES},
        }
        for mistake, title in titles.items()
    ]
    passing = [side for side in known if any(row["raised"] is False for row in known[side])]
    yield Finding(
        kind="first_hour",
        title=f"After {words.count(len(rows), 'typical mistake')}: "
        f"{'; '.join(_read(side, found) for side, found in known.items())}.",
        verdict=f"some pass in {' and '.join(passing)}" if passing else "all raise",
        evidence=tuple(records[side].cell.id for side in known),
        figures={"about": "tracebacks", "rows": rows},
    )


def _read(side: str, rows: list[dict[str, Json]]) -> str:
    """``PyTorch prints 5 to 172 lines and shows the program's own line 4 to 13 lines from the end``."""
    raised, passing = ([r for r in rows if r["raised"] is value] for value in (True, False))
    told = []
    if raised:
        told.append(f"prints {_span([r['lines'] for r in raised])} lines")
        own = [r["own_from_end"] for r in raised if r["own_from_end"] is not None]
        if own:
            told.append(f"shows the program's own line {_span(own)} lines from the end")
        if len(own) < len(raised):
            told.append(f"does not show it in {len(raised) - len(own)} of {len(raised)}")
    if passing:
        told.append(f"lets pass: {words.listing([r['mistake'].replace('_', ' ') for r in passing])}")
    late = [r["mistake"].replace("_", " ") for r in rows if r["raised"] is None]
    if late:
        told.append(f"did not end in time with {words.listing(late)}")
    return f"{words.SIDES[side]} {words.listing(told)}"


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
