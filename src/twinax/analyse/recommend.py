"""From findings to advice: what to choose, what that rests on, what is not known, what would change it."""

from __future__ import annotations

from typing import Literal

from twinax.analyse import words
from twinax.analyse.base import Finding, Findings, Kind
from twinax.analyse.speed import DISTURBED
from twinax.records import Frozen

Choice = Literal["torch", "jax", "either", "undecided"]

USES = {"train": ("step", "grad"), "serve": ("forward",)}
"""The programs that stand for a use, the better one first."""

HEADLINE = 2  # sentences, where nobody asked which framework to choose
DOING = {"train": "training", "serve": "inference"}


class Recommendation(Frozen):
    """What a person should do, as far as the run can say.

    Attributes:
        answer: One or two sentences with the numbers.
        choose: One framework for the whole project; ``either`` where both serve it equally well or
            each wins one use (see ``train`` and ``serve``); ``undecided`` where the run cannot say,
            be it for one use only.
        train: The framework to train in.
        serve: The framework to run inference in.
        because: The findings it rests on.
        does_not_know: What was not measured or not proved.
        would_change: What could turn it round.
    """

    answer: str
    choose: Choice
    train: Choice
    serve: Choice
    because: tuple[str, ...]
    does_not_know: tuple[str, ...]
    would_change: tuple[str, ...]


def recommend(findings: Findings) -> Recommendation:
    """Advice from the findings of one run; where nothing is decided it says so."""
    best = {use: _finding(findings, use) for use in USES}
    uses: dict[str, Choice] = {use: _use(finding) for use, finding in best.items()}
    return Recommendation(
        answer=_answer(findings, uses, best),
        choose=_choose(uses, best),
        train=uses["train"],
        serve=uses["serve"],
        because=tuple(_because(findings, best)),
        does_not_know=tuple(_does_not_know(findings, best)),
        would_change=tuple(_would_change(findings, best)),
    )


def _finding(findings: Findings, use: str) -> Finding | None:
    return next((f for program in USES[use] if (f := findings.best(program))), None)


def _use(finding: Finding | None) -> Choice:
    if finding is None or finding.verdict == "inconclusive":
        return "undecided"
    return finding.figures["faster"] or "either"


def _choose(uses: dict[str, Choice], best: dict[str, Finding | None]) -> Choice:
    measured = {uses[use] for use in USES if best[use]}
    if not measured or "undecided" in measured:
        return "undecided"
    if {"torch", "jax"} <= measured or measured == {"either"}:
        return "either"
    return "torch" if "torch" in measured else "jax"


def _answer(findings: Findings, uses: dict[str, Choice], best: dict[str, Finding | None]) -> str:
    if not any(best.values()):
        return _no_ratio(findings)
    told = {use: _told(use, finding) for use, finding in best.items() if finding}
    match _choose(uses, best):
        case "torch" | "jax" as side:
            return f"Choose {words.SIDES[side]} for this model on this machine: {_joined(told)}."
        case "either" if uses["train"] == uses["serve"] or len(told) == 1:
            return f"Either serves this model equally well on this machine: {_joined(told)}."
        case "either":
            split = f"train in {words.SIDES[uses['train']]}, serve in {words.SIDES[uses['serve']]}"
            more = "If it must be one, take the one for what you do more of."
            return f"It depends on the use ({split}): {_joined(told)}. {more}"
        case _ if set(uses.values()) != {"undecided"}:
            return f"Not decided for every use: {_joined(told)}."
        case _:
            return f"Not decided: {_joined(told)}. The two sides agree, so this is a matter of speed alone."


def _no_ratio(findings: Findings) -> str:
    if not findings.of("parity"):
        return " ".join(_probed(findings)[:HEADLINE]) or "Nothing was measured."
    parity = findings.one("parity")
    ratio = findings.one("speed")
    if parity and parity.verdict == "mismatch":
        return f"Not decided: the two sides are not the same model. {parity.title}"
    if parity and parity.verdict == "holds":
        why = ratio.title if ratio else "No program was timed on both sides."
        return f"They are the same model; which one to choose was not decided. {why}"
    return f"Not decided. {ratio.title if ratio else parity.title if parity else 'Nothing was measured.'}"


def _probed(findings: Findings) -> list[str]:
    """What the other studies found, the most useful first, where nobody asked which framework to choose."""
    loud = [f for f in findings.of("breaks") if f.severity == "warning"]
    whole = [f for f in findings.of("breaks") if f.figures["program"] == "forward"]
    kinds: tuple[Kind, ...] = (
        "training",
        "training_curves",
        "workload",
        "recompiles",
        "cost_of_derivatives",
        "workloads",
        "derivatives",
        "conventions",
        "parallel_parity",
        "parallel_step",
        "cluster",
        "batch_norm",
        "parallel_memory",
        "parallel_traffic",
        "parallel_lines",
        "code",
        "mistakes",
        "first_hour",
    )
    rest = [f for kind in kinds for f in findings.of(kind)]
    compared = [
        f for f in rest if f.kind in ("code", "mistakes") and "side" not in f.figures
    ]  # says both sides
    return [f.title for f in (*(loud or whole[:1]), *compared, *(f for f in rest if f not in compared))]


def _told(use: str, finding: Finding) -> str:
    """One use in words: ``in training PyTorch (compile) is 1.92× as fast as JAX (jit)``."""
    known = finding.figures
    torch, jax = words.setup("torch", known["torch_mode"]), words.setup("jax", known["jax_mode"])
    match finding.verdict:
        case "faster":
            said = f"{torch} is {words.times(known['times'])} as fast as {jax}"
        case "slower":
            said = f"{jax} is {words.times(known['times'])} as fast as {torch}"
        case "equivalent":
            said = f"{torch} and {jax} are equally fast (within {words.percent(known['margin'])})"
        case _:
            why = "on a busy host" if known["disturbed"] > DISTURBED else "the interval crosses the margin"
            ratio = f"ratio {known['low']:.2f} to {known['high']:.2f}"
            said = f"{torch} against {jax} stayed inconclusive ({ratio}, {why})"
    return f"in {DOING[use]} {said}"


def _joined(told: dict[str, str]) -> str:
    return ", and ".join(told.values())


def _because(findings: Findings, best: dict[str, Finding | None]) -> list[str]:
    if not findings.of("parity"):
        return _probed(findings)[HEADLINE:]
    reasons = [finding.title for finding in findings.of("parity")]
    reasons += [finding.title for finding in best.values() if finding]
    if any(best.values()):
        reasons += [f.title for f in findings.of("calibration") if f.figures["kind"] != "bandwidth"]
        reasons += [f.title for f in findings.of("memory")]
    elif ratio := findings.one("speed"):
        reasons.append(ratio.title)
    reasons += [f.title for kind in ("training", "training_curves") for f in findings.of(kind)]
    return reasons


def _does_not_know(findings: Findings, best: dict[str, Finding | None]) -> list[str]:
    # that something differs is known
    gaps = [f.title for f in findings.of("cells") if f.severity == "problem" and f.verdict != "mismatch"]
    gaps += [f.title for f in findings.of("busy_host") if f.verdict == "too busy"]
    parity = findings.one("parity")
    if parity and parity.figures.get("unproved"):
        gaps.append(f"Whether {words.listing(parity.figures['unproved'])} match: no output depends on them.")
    unknown = [DOING[use] for use, finding in best.items() if not finding]
    if unknown and parity:  # else nobody asked
        gaps.append(f"Which side is faster in {words.listing(unknown)}: there is no ratio.")
    gaps += [f.title for f in findings.of("cells") if f.severity == "note"]
    uneven = [f.figures["fact"] for f in findings.of("fairness") if f.verdict == "asymmetric"]
    if uneven and any(best.values()):
        gaps.append(f"How much the sides' different {words.listing(uneven, 3)} weigh in the ratio.")
    gaps.append(
        "Other hardware, batch sizes and element types; data loading; which one your team writes faster."
    )
    return gaps


def _would_change(findings: Findings, best: dict[str, Finding | None]) -> list[str]:
    parity = findings.one("parity")
    if parity and parity.verdict == "mismatch":
        first = (parity.figures["first_difference"] or {}).get("path")
        mend = f"Mend {first} first" if first else "Mend the mismatch"
        return [f"{mend}, then compare again: speed counts once both sides compute the same thing."]
    if not any(best.values()):
        return [_what_to_run(findings)]
    changes = []
    for finding in filter(None, best.values()):
        if finding.verdict == "inconclusive":
            changes.append(f"A quieter machine or more samples would decide {finding.figures['program']}.")
        changes += _short_runs(findings, finding)
    changes += [f.title for f in findings.of("speed") if _another_pair_turns(f, findings)]
    changes.append("A GPU, another batch size or sequence length, or lower precision can turn the ratio round.")
    return list(dict.fromkeys(changes))


def _what_to_run(findings: Findings) -> str:
    parity = findings.one("parity")
    if parity and parity.verdict == "holds":
        return "Measure speed on both sides: twinax speed, or twinax compare."
    if findings.of("training"):
        return f"Ask for parity, speed and training together: twinax compare {findings.twin} --train."
    if not parity:
        return f"Which of the two to choose is another question: twinax compare {findings.twin}."
    return "Run twinax compare with both frameworks installed: parity first, then speed."


def _short_runs(findings: Findings, best: Finding) -> list[str]:
    """Short runs: until compiling has paid, the uncompiled mode is the better one."""
    winner = best.figures["faster"]
    if winner is None:
        return []
    mode = best.figures[f"{winner}_mode"]
    key = (best.figures["program"], winner, mode)
    paid = [
        f for f in findings.of("break_even") if tuple(f.figures[k] for k in ("program", "side", "mode")) == key
    ]
    steps = paid[0].figures["steps"] if paid else None
    if not steps:
        return []
    after = words.count(steps, "iteration")
    return [
        f"Fewer than {after} of {best.figures['program']}: until then {words.setup(winner, mode)} has not "
        f"earned back its compile time against {paid[0].figures['against']}."
    ]


def _another_pair_turns(finding: Finding, findings: Findings) -> bool:
    """Whether the pair of uncompiled modes has the other winner: it is what one debugs in."""
    known = finding.figures
    if known.get("torch_mode") != "eager" or known.get("jax_mode") != "op_by_op" or known["best"]:
        return False
    best = findings.best(known["program"])
    return bool(
        best and known["faster"] and best.figures["faster"] and known["faster"] != best.figures["faster"]
    )
