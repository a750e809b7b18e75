"""What the model's own derivatives cost, each against the one that it is made of."""

from __future__ import annotations

from statistics import median

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.measure import stats
from twinax.records import Json, Record, Run

AGAINST = (
    ("gradient", "loss"),
    ("hvp", "gradient"),
    ("rematerialised", "gradient"),
    ("per_sample_loop", "gradient"),
    ("per_sample", "per_sample_loop"),
)
NAMES = {
    "loss": "the loss",
    "gradient": "the gradient",
    "hvp": "a Hessian-vector product",
    "rematerialised": "the gradient, rematerialised",
    "per_sample_loop": "one gradient per example, in a loop",
    "per_sample": "one gradient per example, by vmap",
}


def findings(run: Run) -> list[Finding]:
    """One finding per side: the ratios with their intervals, and what rematerialising saves."""
    return [_cost(r, run.options.seed) for r in run.of("derivative_cost") if r.measurements.get("derivatives")]


def _cost(record: Record, seed: int) -> Finding:
    known = record.measurements["derivatives"]
    rows = []
    for name, base in AGAINST:
        row, other = known.get(name), known.get(base)
        if not row:
            continue
        found: dict[str, Json] = {"name": name, "base": base, "said": row["said"], "how": row.get("how", "")}
        if not row["said"] and other and not other["said"]:
            ratio = stats.ratio_interval([row["samples_s"]], [other["samples_s"]], seed)
            found |= {"ratio": ratio.ratio, "low": ratio.low, "high": ratio.high}
            found |= {"seconds": median(row["samples_s"]), "peak_bytes": row["peak_bytes"]}
            found |= {"base_bytes": other["peak_bytes"]}
        rows.append(found)
    told = [_sentence(row) for row in rows if "ratio" in row]
    return Finding(
        kind="cost_of_derivatives",
        title=f"{words.setup(record.cell.side, record.cell.mode)}: {'; '.join(filter(None, told))}.",
        verdict="measured",
        severity="problem" if record.outcome.value == "mismatch" else "note",
        evidence=(record.cell.id,),
        figures={"side": record.cell.side, "mode": record.cell.mode, "rows": rows},
    )


def _sentence(row: dict[str, Json]) -> str:
    times = words.times(row["ratio"])
    match row["name"]:
        case "gradient":
            return f"the gradient takes {times} the loss"
        case "hvp":
            return f"a Hessian-vector product {times} the gradient"
        case "rematerialised":
            return f"rematerialising saves {_saved(row)} for {times} the time"
        case "per_sample":
            return f"a gradient per example by vmap takes {times} a loop"
    return ""


def _saved(row: dict[str, Json]) -> str:
    saved = row["base_bytes"] - row["peak_bytes"]
    if saved <= 0:
        return "no memory"
    return f"{words.memory(saved)} of {words.memory(row['base_bytes'])}"
