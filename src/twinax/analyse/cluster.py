"""What the cost model says: how far it is off on measurements it has not seen, and what a cluster would do.

The model is fitted to one device and to ranks that compute and communicate by themselves (cells ``single`` and
``replicas``). No time of a strategy on several ranks goes into it; each of these is held out and shows the
error, which stands beside every prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.analyse.cluster_calibration import (
    COMPILED,
    Calibration,
    calibrate,
    held_by,
    measurement,
    undisturbed,
)
from twinax.measure import cost_model
from twinax.measure.collectives import Link, Measured, Stated
from twinax.measure.cost_model import Held, Machine, Measurement, Prediction
from twinax.records import Cell, Cluster, Json, Record, Run

MEDIAN, WORST = 0.15, 0.40  # errors above these are a warning
SCALINGS = {"weak": "the same batch per device", "strong": "the same batch in all"}


def findings(run: Run) -> list[Finding]:
    """Per side: the error on held-out measurements, and with a stated cluster the best strategy on it."""
    if not any(cell.mode == "replicas" for cell in run.planned) and not run.options.cluster:
        return []  # nothing was asked of the model: a quick run, or one rank
    found = []
    for side in ("torch", "jax"):
        records = [r for r in run.of("parallel") if r.cell.side == side]
        if not records:
            continue
        known = calibrate(side, records, run.host)
        if isinstance(known, str):
            said = f"{words.SIDES[side]}: the cost model cannot be fitted: {known}."
            found.append(_finding(side, "not fitted", said, [r.cell.id for r in records], {"rows": []}))
            continue
        error = _error(known)
        found.append(error)
        if run.options.cluster:
            found.append(_cluster(known, run.options.cluster, error.figures))
    return found


def _finding(side: str, verdict: str, title: str, evidence: Sequence[str], figures: dict[str, Json]) -> Finding:
    return Finding(
        kind="cluster",
        title=title,
        verdict=verdict,
        severity="note" if verdict in ("fits", "best") else "warning",
        evidence=tuple(evidence),
        figures={"side": side, **figures},
    )


# --- the error on what was held out ----------------------------------------------------------------


def _error(known: Calibration) -> Finding:
    rows = [_held_out(known, record) for record in known.strategies]
    errors, sizes_off = (_absolute(rows, key) for key in ("error", "bytes_error"))
    name = words.SIDES[known.side]
    figures: dict[str, Json] = {
        "rows": rows,
        "median": median(errors) if errors else None,
        "worst": max(errors, default=None),
        "bytes": {"median": median(sizes_off), "worst": max(sizes_off)} if sizes_off else None,
        "failed": dict(known.failed),
        "laws": _laws(known),
    }
    if not errors:
        why = next((row["why"] for row in rows), "no strategy was measured")
        said = f"{name}: the cost model is fitted, but nothing tells its error: {why}."
        return _finding(known.side, "unproved", said, known.evidence, figures)
    off = max((row for row in rows if row["error"] is not None), key=lambda row: abs(row["error"]))
    said = (
        f"{name}: on {words.count(len(errors), 'measurement')} held out, the cost model's step times are off "
        f"by {_off(figures)} ({_named(off)})"
    )
    said += f", a rank's memory by {_off(figures['bytes'])}" if sizes_off else ""
    wrong = _wrong(figures) or _wrong(figures["bytes"])
    said += (
        f"; more than {words.percent(MEDIAN)} or {words.percent(WORST)}: do not build on it." if wrong else "."
    )
    return _finding(known.side, "off" if wrong else "fits", said, known.evidence, figures)


def _absolute(rows: Sequence[Mapping[str, Json]], key: str) -> list[float]:
    return [abs(row[key]) for row in rows if row[key] is not None]


def _off(errors: Mapping[str, Json]) -> str:
    return f"{words.percent(errors['median'])} in the median and {words.percent(errors['worst'])} at worst"


def _wrong(errors: Mapping[str, Json] | None) -> bool:
    return errors is not None and (errors["median"] > MEDIAN or errors["worst"] > WORST)


def _named(row: Mapping[str, Json]) -> str:
    return f"{label(row['strategy'])} on {words.count(row['ranks'], 'rank')}"


def label(strategy: str) -> str:
    """A strategy's name for people: ``fully sharded``."""
    return {"data_local": "data, BatchNorm local", "data_tensor": "data × tensor"}.get(
        strategy, strategy.replace("_", " ")
    )


def _laws(known: Calibration) -> list[dict[str, Json]]:
    """What was fitted, for the reader: per number of ranks, and per kind of collective."""
    rows: list[dict[str, Json]] = []
    for (ranks, _), machine in known.machines.items():
        assert isinstance(machine.network, Measured)
        rows.append(
            {"ranks": ranks, "what": "step", "fixed_s": machine.compute.fixed, "slope_s": machine.compute.slope}
        )
        rows += [
            {"ranks": group, "what": kind, "fixed_s": law.fixed, "slope_s": law.slope}
            for (kind, group), law in machine.network.laws.items()
        ]
    return rows


def _held_out(known: Calibration, record: Record) -> dict[str, Json]:
    """Measured against predicted: seconds of a step, bytes on the fullest rank."""
    cell, seen = record.cell, measurement(record, known.model)
    machine = known.machines.get((cell.ranks, cell.processes))
    measured, held = undisturbed(record.measurements["step_s"]), held_by(record).kept
    row: dict[str, Json] = {
        "side": known.side,
        "strategy": cell.mode,
        "ranks": cell.ranks,
        "processes": cell.processes,
        "batch": cell.size.batch,
        "measured_s": measured,
        "predicted_s": None,
        "error": None,
        "measured_bytes": held or None,
        "predicted_bytes": None,
        "bytes_error": None,
        "why": "",
    }
    if why := _unpredictable(machine, cell, seen):
        return {**row, "why": f"{_named(row)}: {why}"}
    assert machine is not None
    told = _at(known, cell, seen, machine)
    row.update(predicted_s=told.step_s, error=told.step_s / measured - 1)
    if held and known.model.held.total:
        kept = told.held.kept  # what is gathered for a moment was not counted
        row.update(predicted_bytes=kept, bytes_error=kept / held - 1)
    return row


def _unpredictable(machine: Machine | None, cell: Cell, seen: Measurement) -> str:
    if machine is None:
        where = words.count(cell.processes, "process", "processes")
        return f"no {words.count(cell.ranks, 'rank')} in {where} were measured by themselves"
    assert isinstance(machine.network, Measured)
    if seen.traffic and not machine.network.laws:
        return "no collective was measured by itself"
    return ""


def _at(known: Calibration, cell: Cell, seen: Measurement, machine: Machine) -> Prediction:
    """A cell's own prediction; its traffic was counted, so that only times are predicted."""
    groups = sorted(m.ranks for m in seen.traffic)
    return cost_model.predict(
        cell.mode,
        known.model,
        seen,
        machine,
        batch=cell.size.batch,
        ranks=cell.ranks,
        tensor_ranks=groups[0] if cell.mode == "data_tensor" and groups else 1,
        micro_batches=seen.micro_batches,
        messages=seen.traffic,
    )


# --- a stated cluster ------------------------------------------------------------------------------


def sizes(cluster: Cluster) -> list[int]:
    """1, 2, 4 … devices, whole nodes from one node on, and the whole cluster."""
    node, found = cluster.devices_per_node, {1, cluster.devices_per_node}
    found |= {2**i for i in range(node.bit_length()) if 2**i <= node}
    found |= {node * 2**i for i in range(cluster.nodes.bit_length()) if 2**i <= cluster.nodes}
    return sorted(found | {node * cluster.nodes})


def device(known: Calibration, cluster: Cluster) -> Machine | str:
    """One of the cluster's devices, as efficient as this machine was in the same step; or why it is unknown."""
    near = known.machines[min(known.machines)]
    whole = near.compute(known.model.batch)
    faster = 1.0
    if cluster.device.flops is not None:
        peak = known.single.measurements.get("peak_flops")
        if not peak:
            return "the rate of a large matrix product was not measured here, so that device.flops says nothing"
        faster = cluster.device.flops / peak
    here = near.scaled(known.seconds / whole / faster)
    engine = here.engine if known.side in COMPILED else near.scaled(1 / faster).engine
    inside, between = cluster.inside, cluster.between or cluster.inside
    return Machine(
        compute=here.compute,
        update=here.update,
        engine=engine,
        network=Stated(
            cluster.devices_per_node,
            Link(inside.latency_s, inside.bandwidth_bytes_s),
            Link(between.latency_s, between.bandwidth_bytes_s),
        ),
        overlap=cluster.device.flops is not None,
        sums_apart=near.sums_apart and cluster.device.flops is None,
    )


def _cluster(known: Calibration, cluster: Cluster, error: Mapping[str, Json]) -> Finding:
    """The best strategy on the whole cluster, and every strategy's curve up to there."""
    name = f"{words.SIDES[known.side]} on {words.printable(cluster.name)}"
    made = device(known, cluster)
    if isinstance(made, str):
        return _finding(known.side, "not predicted", f"{name}: {made}.", known.evidence, {"curves": []})
    rows = [row for scaling in SCALINGS for row in _curves(known, cluster, made, scaling)]
    best = {scaling: best_of(rows, scaling, max(sizes(cluster))) for scaling in SCALINGS}
    flops, peak = (known.single.measurements.get(key) for key in ("flops", "peak_flops"))
    figures: dict[str, Json] = {
        "cluster": cluster.model_dump(mode="json"),
        "devices": max(sizes(cluster)),
        "efficiency": flops / known.seconds / peak if flops and peak else None,
        "curves": rows,
        "best": best,
        "error": {key: error[key] for key in ("median", "worst", "bytes")},
        "left_out": dict(known.failed),
    }
    told = [_told(scaling, best[scaling], error) for scaling in SCALINGS]
    quickest = min((r for r in rows if r["scaling"] == "strong" and not r["why"]), key=_step, default=None)
    if quickest and best["strong"] and quickest["devices"] < figures["devices"]:
        said = f"{words.count(quickest['devices'], 'device')} ({words.seconds(quickest['step_s'])})"
        by = f" by {label(quickest['strategy'])}" if quickest["devices"] > 1 else ""
        told.append(f"that batch is done soonest on {said}{by}")
    fits = best["weak"] is not None
    proved = error["median"] is not None and not _wrong(error) and not _wrong(error["bytes"])
    verdict = "nothing fits" if not fits else "best" if proved else "uncertain"
    return _finding(known.side, verdict, f"{name}: {'; '.join(told)}.", known.evidence, figures)


def _step(row: Mapping[str, Json]) -> float:
    return row["step_s"]


def _told(scaling: str, best: Mapping[str, Json] | None, error: Mapping[str, Json]) -> str:
    """``predicted fastest with …: data, 12.3 ms a step …``; the error stands beside it."""
    if best is None:
        return f"with {SCALINGS[scaling]} no strategy can be predicted that fits"
    return (
        f"with {SCALINGS[scaling]} ({best['batch']:,}{' in all' if scaling == 'weak' else ''}) "
        f"{label(best['strategy'])}{'' if best['ran'] else ' (made of its two parts: it did not run here)'} is "
        "predicted fastest on "
        f"{words.count(best['devices'], 'device')}: {words.seconds(best['step_s'])} a step "
        f"({_sure(error)} here), {words.three(best['throughput'])} examples/s, "
        f"{words.memory(best['bytes'])} a device "
        f"({_sure(error['bytes'])} here)"
    )


def _sure(error: Mapping[str, Json] | None) -> str:
    if error is None or error["median"] is None:
        return "error not known"
    return f"±{words.percent(error['median'])}, at worst {words.percent(error['worst'])}"


def best_of(rows: Sequence[Mapping[str, Json]], scaling: str, devices: int) -> dict[str, Json] | None:
    """The fastest strategy that fits; None where none does."""
    able = [r for r in rows if r["scaling"] == scaling and r["devices"] == devices and not r["why"]]
    return dict(min(able, key=_step)) if able else None


def _curves(known: Calibration, cluster: Cluster, machine: Machine, scaling: str) -> Iterator[dict[str, Json]]:
    """Every strategy at every size; ``why`` says what speaks against it."""
    for strategy, seen in _known_strategies(known, cluster):
        for devices in sizes(cluster):
            batch = known.model.batch * (devices if scaling == "weak" else 1)
            found = [
                _point(known, cluster, machine, strategy, seen, batch, devices, tensor)
                for tensor in _splits(strategy, cluster, devices)
            ]
            able = [row for row in found if not row["why"]] or found
            if able:
                yield {"scaling": scaling, **min(able, key=_step)}


def _known_strategies(known: Calibration, cluster: Cluster) -> Iterator[tuple[str, Measurement]]:
    """Each strategy that worked, at the most ranks on which it did; the mixed one is made of two."""
    latest = {
        r.cell.mode: measurement(r, known.model) for r in sorted(known.strategies, key=lambda r: r.cell.ranks)
    }
    for strategy, seen in latest.items():
        if strategy == "fully_sharded" and known.side in COMPILED and cluster.device.flops is not None:
            seen = cost_model.scattered(seen, known.model.held.gradients)
        if strategy != "data_tensor":
            yield strategy, seen
    if "tensor" in latest and "data" in latest:
        yield "data_tensor", cost_model.mixed(latest["data"], latest["tensor"])


def _splits(strategy: str, cluster: Cluster, devices: int) -> list[int]:
    """Devices along the tensor axis: within a node, where links are fast (Megatron-LM, arXiv:2104.04473)."""
    if strategy != "data_tensor":
        return [1]
    able = [2**i for i in range(1, cluster.devices_per_node.bit_length())]
    return [t for t in able if t <= cluster.devices_per_node and devices % t == 0 and devices // t >= 2]


def _point(
    known: Calibration,
    cluster: Cluster,
    machine: Machine,
    strategy: str,
    seen: Measurement,
    batch: int,
    devices: int,
    tensor: int,
) -> dict[str, Json]:
    """One strategy at one size."""
    pipeline = strategy == "pipeline"
    micro = min(batch, cost_model.MICRO_BATCHES_PER_STAGE * devices) if pipeline and devices > 1 else 1
    told = cost_model.predict(
        strategy,
        known.model,
        seen,
        machine,
        batch=batch,
        ranks=devices,
        tensor_ranks=tensor,
        micro_batches=micro,
    )
    shares = 1 if strategy in ("tensor", "pipeline") else devices // tensor
    why = ""
    if told.held.total > cluster.device.memory_bytes:
        why = "does not fit"
    elif shares > batch:
        why = "fewer examples than devices"
    elif seen.most_ranks is not None and {"data_tensor": tensor}.get(strategy, devices) > seen.most_ranks:
        why = f"the model has {words.count(seen.most_ranks, 'part')} at most"
    return {
        "strategy": strategy,
        "devices": devices,
        "batch": batch,
        "tensor": tensor if strategy == "data_tensor" else None,
        "micro_batches": micro if pipeline else None,
        "step_s": told.step_s,
        "compute_s": told.compute_s,
        "communication_s": told.communication_s,
        "throughput": batch / told.step_s,
        "bytes": told.held.total,
        "held": {name: getattr(told.held, name) for name in Held.__dataclass_fields__},
        "ran": any(record.cell.mode == strategy for record in known.strategies),
        "why": why,
    }
