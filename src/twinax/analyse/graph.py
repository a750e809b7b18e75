"""What became of the model when it was turned into a graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.records import Json, Record, Run

ALIKE = 0.01  # FLOPs of a module on the two sides may differ by this share
LARGE = 1 << 20  # bytes of a constant from which a graph grows noticeably


def findings(run: Run) -> list[Finding]:
    """Work, breaks, kernels, constants, changes of type, and the operations of every form."""
    records = [r for r in run.of("graph") if r.measurements.get("programs")]
    found = [*_work(records)]
    for record in records:
        for program, captured in record.measurements["programs"].items():
            found += [
                *_breaks(record, program, captured),
                *_refused(record, program, captured),
                *_constants(record, program, captured),
                *_promotions(record, program, captured),
                *_operations(record, program, captured),
            ]
    return found


def place(row: dict[str, Json]) -> str:
    """``models/net.py:12``: where something was written; the folder tells files of one name apart."""
    if not row["file"]:
        return "a line that is not known"
    return f"{'/'.join(PurePath(row['file']).parts[-2:])}:{row['line']}"


def _work(records: list[Record]) -> Iterator[Finding]:
    """The forward pass module by module, both sides next to each other."""
    trees = {r.cell.side: r.measurements["programs"].get("forward", {}).get("modules", {}) for r in records}
    trees = {side: tree for side, tree in trees.items() if tree}
    if not trees:
        return
    paths = dict.fromkeys(path for tree in trees.values() for path in tree)
    rows = [
        {"path": path, **{side: tree.get(path) for side, tree in trees.items()}} for path in _in_order(paths)
    ]
    whole = {side: tree[""]["flops"] for side, tree in trees.items()}
    told = " and ".join(f"{words.quantity(n, 'FLOP')} in {words.SIDES[s]}" for s, n in whole.items())
    parted = [row["path"] for row in rows if len(trees) == 2 and not _alike(row)]
    where = f" They part first in {parted[0] or 'the model itself'}." if parted else ""
    if len(trees) == 2 and not parted:
        told = f"{words.quantity(whole['torch'], 'FLOP')} on both sides, module by module"
    yield Finding(
        kind="work",
        title=f"forward: matrix products and convolutions take {told}.{where}",
        verdict="parted" if parted else "alike",
        severity="warning" if parted else "note",
        evidence=tuple(r.cell.id for r in records),
        figures={"rows": rows, "whole": whole},
    )


def _in_order(paths: dict[str, None]) -> list[str]:
    """Each module right after the one that holds it, in the order in which they were met."""
    rank = {path: i for i, path in enumerate(paths)}

    def key(path: str) -> list[int]:
        parts = path.split(".") if path else []
        above = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
        return [rank.get(p, len(rank)) for p in above]

    return sorted(paths, key=key)


def _alike(row: dict[str, Json]) -> bool:
    """Only where both sides know the module: what one inlines has no row of its own."""
    torch, jax = row["torch"], row["jax"]
    if torch is None or jax is None:
        return True
    return abs(torch["flops"] - jax["flops"]) <= ALIKE * max(torch["flops"], jax["flops"])


def _breaks(record: Record, program: str, captured: dict[str, Json]) -> Iterator[Finding]:
    """Where dynamo leaves the graph."""
    known = captured.get("dynamo") or {}
    if not known:
        return
    count, breaks = known["graphs"], known["breaks"]
    guards = words.count(known["guards"], "guard")
    if not count:
        told, verdict = "dynamo makes no graph of it: it runs uncompiled", "uncompiled"
    elif not breaks:
        told, verdict = f"dynamo captures it whole, behind {guards}", "whole"
    else:
        places = [f"{place(b)} ({b['reason'].split(':')[0]})" for b in breaks]
        told = f"dynamo makes {words.count(count, 'graph')} of it, behind {guards}; it leaves at "
        told, verdict = told + words.listing(list(dict.fromkeys(places)), 2), "broken"
    expected = program == "step"  # nobody compiles the optimizer with the model unless they say so
    yield Finding(
        kind="breaks",
        title=f"{program}: {told}.",
        verdict=verdict,
        severity="note" if verdict == "whole" or expected else "warning",
        evidence=(record.cell.id,),
        figures={"program": program, **known},
    )


def _refused(record: Record, program: str, captured: dict[str, Json]) -> Iterator[Finding]:
    """Which tool could not capture the program, and why."""
    if captured.get("refused"):
        yield Finding(
            kind="breaks",
            title=f"{program}: no whole graph. {captured['refused']}",
            verdict="refused",
            severity="warning",
            evidence=(record.cell.id,),
            figures={"program": program, "graphs": 0, "guards": 0, "breaks": []},
        )


def _constants(record: Record, program: str, captured: dict[str, Json]) -> Iterator[Finding]:
    """Arrays that are not arguments: they are copied into every compiled program."""
    rows = captured.get("constants") or []
    if not rows:
        return
    size = sum(row["bytes"] for row in rows)
    yield Finding(
        kind="constants",
        title=f"{program}: {words.SIDES[record.cell.side]} bakes {words.count(len(rows), 'array')} "
        f"({words.memory(size)}) into the graph.",
        verdict="large" if size >= LARGE else "small",
        severity="warning" if size >= LARGE else "note",
        evidence=(record.cell.id,),
        figures={"program": program, "side": record.cell.side, "rows": rows, "bytes": size},
    )


def _promotions(record: Record, program: str, captured: dict[str, Json]) -> Iterator[Finding]:
    """Where an array changes its floating-point type on the way."""
    rows = captured.get("promotions") or []
    if not rows:
        return
    kinds = dict.fromkeys(f"{' and '.join(row['from'])} → {row['to']}" for row in rows)
    first = next((row for row in rows if row["file"]), None)
    where = f", first at {place(first)}" if first else ""
    wider = any(row["to"] == "float64" and record.cell.dtype != "float64" for row in rows)
    yield Finding(
        kind="promotions",
        title=f"{program}: {words.SIDES[record.cell.side]} changes the type of an array "
        f"{words.count(len(rows), 'time')} ({words.listing(list(kinds), 3)}){where}.",
        verdict="wider" if wider else "changes",
        severity="warning" if wider else "note",
        evidence=(record.cell.id,),
        figures={"program": program, "side": record.cell.side, "rows": rows},
    )


def _operations(record: Record, program: str, captured: dict[str, Json]) -> Iterator[Finding]:
    """How many operations the captured graph holds by form, and what the compiler fuses them to."""
    forms = captured.get("operations") or {}
    if not forms:
        return
    side, kernels = record.cell.side, captured.get("kernels") or {}
    totals = {form: sum(counts.values()) for form, counts in forms.items()}
    told = words.listing([f"{words.count(n, 'operation')} as {form}" for form, n in totals.items()])
    fused = (
        f"; its compiler writes {words.count(kernels['fused'], 'fused kernel')} "
        f"and calls libraries {words.count(kernels['library'], 'time')}"
        if kernels
        else ""
    )
    yield Finding(
        kind="graph",
        title=f"{program}: {words.SIDES[side]} captures {told}{fused}.",
        verdict="captured",
        evidence=(record.cell.id,),
        figures={"program": program, "side": side, "totals": totals, "counts": forms, "kernels": kernels},
    )
