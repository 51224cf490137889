"""The report of a race: its results as JSON, as Markdown, and as one web page with figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ae_core.figures.charts import to_png
from ae_core.figures.html import details, figure, numbers, pairs, report_html, section
from ae_core.files.output import make_folder, write_bytes, write_json
from benchmarks.race.journal import Record, read_journal
from benchmarks.race.load import RECORD
from benchmarks.report.analysis import analyse, model_of
from benchmarks.report.plots import plots
from benchmarks.report.tables import Table, tables, verdict

FILES = ("race.json", "report.md", "report.html")


@dataclass(frozen=True)
class Report:
    """Make the report of a race anew from its records."""

    race: tyro.conf.Positional[Path]
    """Folder that `race --out` left."""
    out: Path | None = None
    """Folder for the report; the race's own by default."""


def run_report(options: Report) -> int:
    """Write the report and print its path.

    Raises:
        UserError: the race cannot be read, or the folder cannot be written.
    """
    records = read_journal(options.race)
    out = options.out or (options.race if options.race.is_dir() else options.race.parent)
    make_folder(out)
    write_report(out, records)
    print(f"report: {out / 'report.html'}")
    return 0


def write_report(out: Path, records: list[Record]) -> None:
    """Write the results and both forms of the report into a folder."""
    result = analyse(records)
    drawn = {caption: to_png(plot) for caption, plot in plots(result).items()}
    write_json(out / FILES[0], result)
    write_bytes(out / FILES[1], markdown(result).encode())
    write_bytes(out / FILES[2], html(result, drawn).encode())


def markdown(result: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    parts = ["# The race", f"{verdict(result)[1]}. {_lead(result)}"]
    for table in tables(result):
        rule = ["---", *["---:"] * (len(table.head) - 1)]
        lines = [_line(cells) for cells in (table.head, rule, *table.rows)]
        parts += [f"## {table.title}", table.note, "\n".join(lines)]
    environment = "\n".join(f"- {key}: {value}" for key, value in _environment(result).items())
    return "\n\n".join([*parts, "## Environment", environment]) + "\n"


def html(result: dict[str, Any], drawn: dict[str, bytes]) -> str:
    """Return the report as one web page; ``drawn`` are PNG files by caption."""
    shown = tables(result)
    sections = [_section(table) for table in shown[:1]]
    sections.append(section("Figures", "".join(figure(caption, png) for caption, png in drawn.items())))
    sections += [_section(table) for table in shown[1:]]
    sections.append(section("Environment", pairs(_environment(result))))
    models = {w["name"]: w["spec"] if "spec" in w else {"pair": w["pair"]} for w in result["workloads"]}
    sections.append(section("Workloads", "".join(details(name, model) for name, model in models.items())))
    good, said = verdict(result)
    return report_html("The race", _lead(result), good, said, sections, str(result["schema"]))


def _section(table: Table) -> str:
    rows = ((cells[0], cells[1:], i not in table.failed) for i, cells in enumerate(table.rows))
    return section(table.title, numbers("parity", table.note, table.head[0], table.head[1:], rows))


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _lead(result: dict[str, Any]) -> str:
    environment, kind = result["environment"], "A quick race" if result["options"].get("quick") else "A race"
    rounds, model = f"{result['options'].get('rounds', '?')} rounds", model_of(result)
    kind += "" if model is None else f" of {model}"
    return f"{kind} in {rounds} on {environment.get('cores', '?')} cores, {environment.get('date', 'date unknown')}."


def _environment(result: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in result["environment"].items():
        if isinstance(value, dict):
            found |= {f"{key}: {name}": str(item) for name, item in value.items()}
        else:
            found[key] = str(value)
    if result[RECORD] is not None:
        found["others on the cores"] = f"at most {100 * result[RECORD]:.1f} % while blocks were timed"
    peak = result["peak"]
    if peak.get("gflops"):
        found["matmul peak"] = f"{peak['gflops']:.0f} GFLOP/s in float32"
        found["memory peak"] = f"{peak['gbytes']:.1f} GB/s"
    return found
