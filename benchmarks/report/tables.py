"""The results of a race as tables of text, for Markdown and the web page alike."""

from typing import Any, NamedTuple

from benchmarks.race.load import QUIET, RECORD
from benchmarks.race.profiles import GROUPS
from benchmarks.race.rounds import DISAGREES
from benchmarks.race.sides import SIDES

Result = dict[str, Any]
NONE = "—"


class Table(NamedTuple):
    """A table whose first column names the row."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]
    failed: set[int] = frozenset()  # type: ignore[assignment]
    """Indices of the rows that are marked as failed."""


def tables(result: Result) -> list[Table]:
    """Return all tables that are not empty."""
    made = [
        _targets(result),
        _missed(result),
        _ratios(result),
        _peers(result),
        _speeds(result),
        _spent(result),
        _starts(result),
    ]
    return [table for table in [*made, _quality(result), _absent(result)] if table.rows]


def verdict(result: Result) -> tuple[bool, str]:
    """Return whether the race came to what it should, on a quiet machine, and a summary in one sentence.

    At the published workloads, that targets were reached and none was missed; at others, that each twin has a number
    and all its variants agree.
    """
    good, said = _targets_met(result) if result["targets"] else _raced(result)
    share = result[RECORD]
    if share is not None and share > QUIET:
        busy = f"the machine was busy: others used up to {100 * share:.0f} % of its cores while blocks were timed"
        return False, f"{said}; {busy}"
    return good, said


def _targets_met(result: Result) -> tuple[bool, str]:
    judged = [target["reached"] for target in result["targets"]]
    reached, missed, unmeasured = judged.count(True), judged.count(False), judged.count(None)
    doubtful = sum(bool(target["reached"]) and not target.get("certain", True) for target in result["targets"])
    reached_said = f"{reached} targets reached" + (f" ({doubtful} not for certain)" if doubtful else "")
    return missed == 0 and reached > 0, f"{reached_said}, {missed} missed, {unmeasured} not measured"


def _raced(result: Result) -> tuple[bool, str]:
    signs = [ratio["beyond_noise"] for ratio in result["ratios"]]
    said = f"JAX is faster at {signs.count(1)} of {len(signs)} workloads, slower at {signs.count(-1)}"
    rows = [row for row in (*result["rows"], *result["quality"]) if SIDES[row["side"]].ours]
    numbers: dict[str, bool] = {}
    for row in rows:
        name = f"{row['label']} at {row['workload']}"
        measured = row["seconds"] if "seconds" in row else row["images_per_second"]
        numbers[name] = numbers.get(name, False) or measured is not None
    apart = sum((row["reason"] or "").startswith(DISAGREES) for row in rows)
    said += f"; {apart} variants of the twins do not agree with the reference" if apart else ""
    lost = [name for name, known in numbers.items() if not known]
    said += f"; no number: {', '.join(lost)}" if lost else ""
    return bool(numbers) and not lost and not apart, said


def number(value: Any, form: str = ".3g") -> str:
    """Return a number, or a dash where there is none."""
    return NONE if value is None else format(value, form)


def interval(bounds: Any) -> str:
    """Return an interval, or a dash."""
    return NONE if not bounds else f"{bounds[0]:.2f}–{bounds[1]:.2f}"


def _megabytes(count: Any) -> str:
    return NONE if count is None else f"{count / 1e6:,.0f} MB"


def times(value: Any) -> str:
    """Return a ratio."""
    return NONE if value is None else f"{value:.2f} ×"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"


def _targets(result: Result) -> Table:
    rows = []
    for t in result["targets"]:
        word = {True: "reached", False: f"missed by {_percent(t.get('short', 0))}", None: "not measured"}[t["reached"]]
        word += "" if t.get("certain", True) else ", not for certain"
        rows.append([t["target"], t["right"], number(t["value"], ".2f"), interval(t["ci"]), word])
    failed = {i for i, target in enumerate(result["targets"]) if target["reached"] is False}
    note = (
        "Ratios are speeds: how many times as many images a second. What is not for certain has the target within its "
        "interval; being no worse, as a loop or a batch of 512 must be, is missed where all of it is on the wrong side."
    )
    return Table("Targets", note, ["Target", "Right", "Measured", "Interval", "Result"], rows, failed)


def _missed(result: Result) -> Table:
    best = {row["workload"]: row for row in result["rows"] if row["side"] == "jax" and row["best"]}
    rows = []
    for t in result["targets"]:
        if t.get("needed") is None:
            continue
        row = best[t["workload"]]
        at_peak = _at_peak(row, result["peak"])
        rows.append([t["target"], number(row["milliseconds"]), number(t["needed"]), at_peak, *_shares(row)])
    note = (
        "Our JAX's step, in ms: as it was measured, as it would have to be, and what its products alone would take at "
        "the measured peak; and on what it is spent. The rest is waiting and handing over."
    )
    return Table("Missed by how much and why", note, ["Target", "Step", "Needed", "At peak", *_SPENT], rows)


def _spent(result: Result) -> Table:
    rows = []
    for r in result["rows"]:
        if r.get("shares"):
            name = f"{r['workload']}: {r['label']}, {r['variant']}"
            rows.append([name, number(r["milliseconds"]), _at_peak(r, result["peak"]), *_shares(r)])
    note = (
        "Shares of a step that the framework's own profiler saw, of the best and the default of our twins: products "
        "and convolutions; what is done to each number by itself; moving numbers; adding up over devices. Beside "
        "them a step's time without the profiler, and what its products alone would take at the measured peak, in ms."
    )
    return Table("On what a step is spent", note, ["Workload, side, variant", "Step", "At peak", *_SPENT], rows)


_SPENT = ["Products", "Elementwise", "Copies", "All-reduce", "Rest"]


def _shares(row: Result) -> list[str]:
    shares = row.get("shares") or {}
    return [number(shares.get(group), ".0%").replace("%", " %") for group in (*GROUPS, "rest")]


def _at_peak(row: Result, peak: Result) -> str:
    known = peak.get("gflops") and row["operations"] is not None
    return number(row["operations"] / peak["gflops"] / 1e6 if known else None)


def _ratios(result: Result) -> Table:
    rows = []
    for r in result["ratios"]:
        word = {1: "faster", -1: "slower", 0: "no difference"}[r["beyond_noise"]]
        cells = [times(r["ratio_best"]), interval(r["ci"]), times(r["ratio_default"]), interval(r["ci_default"])]
        spread = NONE if r["noise"] is None else f"± {100 * r['noise']:.1f} %"
        rows.append([r["workload"], *cells, spread, word, r["best_jax"], r["best_torch"]])
    note = (
        "Our JAX over our PyTorch: the best variant of each, then the defaults; median of the ratio paired by round, "
        "with a 95 % bootstrap interval. Noise is how far two copies of the same seem apart in the same rounds; a "
        "difference counts beyond it."
    )
    head = ["Workload", "Best", "Interval", "Default", "Interval", "Noise", "JAX is", "Best JAX", "Best PyTorch"]
    return Table("JAX against PyTorch", note, head, rows)


def _peers(result: Result) -> Table:
    rows = [[f"{p['workload']}, {p['label']}", times(p["ratio"]), interval(p["ci"])] for p in result["peers"]]
    note = "Our best JAX over the best variant of others."
    return Table("Against others", note, ["Workload and side", "Ratio", "Interval"], rows)


def _speeds(result: Result) -> Table:
    rows = []
    for r in result["rows"]:
        if r["images_per_second"] is None:
            continue
        share = NONE if r["share_of_peak"] is None else f"{100 * r['share_of_peak']:.0f} %"
        memory = [_megabytes(r.get(name)) for name in ("peak_bytes", "temporary_bytes")]
        name = f"{r['workload']}: {r['label']}, {r['variant']}"
        cells = [f"{r['images_per_second']:,.0f}", number(r["milliseconds"], ".3g"), number(r["gflops"], ",.0f")]
        rows.append([name + (" (best)" if r["best"] else ""), *cells, share, *memory])
    note = (
        "Every variant of the grid, losers too. GFLOP/s are products of the model's own geometry, not what was "
        "executed; the share is of the matmul peak measured in the same run. Memory is the peak of a process that "
        "does nothing else; temporaries are what the compiled steps hold beside inputs and outputs, on each device."
    )
    head = ["Workload, side, variant", "Images/s", "ms a step", "GFLOP/s", "Share of peak", "Memory", "Temporaries"]
    return Table("Speed", note, head, rows)


def _starts(result: Result) -> Table:
    rows = []
    for r in result["rows"]:
        cold = r.get("cold")
        if not cold:
            continue
        warm = r.get("warm") or {}
        stages = [number(cold.get(stage), ".2f") for stage in ("import", "trace", "lower", "compile", "first")]
        call, even = number(r["call_milliseconds"], ".2f"), number(r["break_even_step"], ",d")
        rows.append(
            [f"{r['workload']}: {r['label']}, {r['variant']}", *stages, number(warm.get("first"), ".2f"), call, even]
        )
    note = (
        "Seconds. The first step holds what was traced, lowered and compiled for it, with an empty cache; warm is the "
        "same with the cache that it left. A call is what one dispatch costs beside its steps. From the break-even "
        "step on a cold start is ahead of a cold start of our PyTorch's default."
    )
    head = ["Workload, side, variant", "Import", "Trace", "Lower", "Compile", "First", "Warm", "Call, ms", "Even at"]
    return Table("Where the time goes", note, head, rows)


def _quality(result: Result) -> Table:
    rows = []
    for q in result["quality"]:
        seconds = [
            number(q["seconds"], ".1f"),
            interval(q.get("ci")),
            times(q.get("ratio")),
            interval(q.get("ratio_ci")),
        ]
        reached = f"{q['reached']} of {q['seeds']}"
        rows.append([f"{q['workload']}: {q['label']}, {q['variant']}", number(q["target"], "g"), reached, *seconds])
    note = "Whole trainings from cold, with compilation, to a held-out loss; a new process for each seed."
    head = ["Workload, side, variant", "Loss", "Seeds", "Seconds", "Interval", "JAX is", "Interval"]
    return Table("Time to quality", note, head, rows)


def _absent(result: Result) -> Table:
    rows = [[f"{r['workload']}: {r['label']}, {r['variant']}", r["reason"]] for r in result["rows"] if r["reason"]]
    rows += [[f"{q['workload']}: {q['label']}, {q['variant']}", q["reason"]] for q in result["quality"] if q["reason"]]
    return Table("Without a number", "Who did not agree, died, or was not there.", ["Who", "Why"], rows)
