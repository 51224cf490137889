"""A report as one self-contained web page: no script, no network, readable on a telephone and on paper.

All text is escaped here, so that callers hand over plain strings.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --muted: #5a6570; --page: #f6f7f8; --card: #fff; --rule: #dfe3e7;
  --good: #00563b; --good-bg: #e3f3ec; --bad: #8a2500; --bad-bg: #fdeae2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --muted: #9aa6b2; --page: #14181c; --card: #1c2126;
  --rule: #333b43; --good: #7fdcb6; --good-bg: #12332a; --bad: #ffb08e; --bad-bg: #3d2015; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 2.75rem 0 0.75rem; font-size: 1.2rem; }
.lead { margin: 0.35rem 0 1.5rem; color: var(--muted); }
.verdict { margin: 0; padding: 0.9rem 1.1rem; border-left: 5px solid; border-radius: 4px; overflow-wrap: anywhere; }
.verdict b { margin-right: 0.5rem; letter-spacing: 0.04em; }
.pass { color: var(--good); background: var(--good-bg); }
.fail { color: var(--bad); background: var(--bad-bg); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 0.25rem 1.1rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.45rem 0.75rem; text-align: left; vertical-align: top; font-weight: 400;
  border-top: 1px solid var(--rule); }
:is(th, td):first-child { padding-left: 0; } :is(th, td):last-child { padding-right: 0; }
tbody:first-child tr:first-child > *, thead tr > * { border-top: 0; }
thead th { color: var(--muted); font-size: 0.875rem; }
tbody th { color: var(--muted); }
.summary thead th { color: var(--ink); font-size: 1rem; font-weight: 600; }
.summary td, .summary thead th + th, .parity .number { text-align: right; }
.parity tbody th { color: var(--ink); overflow-wrap: anywhere; }
.parity .number { white-space: nowrap; }
.parity tr.failed > * { font-weight: 700; color: var(--bad); }
.pairs th { width: 14rem; } .pairs td { overflow-wrap: anywhere; }
figure { margin: 0 0 1.5rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.paper { background: #fff; border: 1px solid var(--rule); border-radius: 6px; padding: 0.5rem; }
figcaption { margin-top: 0.4rem; color: var(--muted); font-size: 0.925rem; }
summary { cursor: pointer; padding: 0.55rem 0; }
pre { margin: 0 0 0.9rem; overflow-x: auto; font: 0.85rem/1.5 ui-monospace, monospace; }
a { color: inherit; } ul { margin: 0; padding-left: 1.25rem; }
footer { margin-top: 2.5rem; color: var(--muted); font-size: 0.85rem; }
@media (max-width: 36rem) {
  main { padding: 1.5rem 0.9rem 3rem; }
  .card { padding: 0.1rem 0.8rem; }
  .summary :is(th, td) { padding-left: 0.3rem; padding-right: 0.3rem; font-size: 0.925rem; }
  .parity thead { display: none; }
  .parity tr { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0 0.5rem; padding: 0.5rem 0;
    border-top: 1px solid var(--rule); }
  .layers tr { grid-template-columns: repeat(3, 1fr); }
  .parity tr:first-child { border-top: 0; }
  .parity tr > * { padding: 0; border: 0; font-size: 0.925rem; }
  .parity tbody th { grid-column: 1 / -1; }
  .parity .number { text-align: left; }
  .parity td::before { content: attr(data-label); display: block; color: var(--muted); font-size: 0.78rem;
    font-weight: 400; }
  .pairs tr { display: block; padding: 0.45rem 0; border-top: 1px solid var(--rule); }
  .pairs tr:first-child { border-top: 0; }
  .pairs :is(th, td) { display: block; width: auto; padding: 0; border: 0; }
  .pairs th { font-size: 0.85rem; }
}
@media print { figure, tr { break-inside: avoid; } }
"""


def report_html(heading: str, lead: str, good: bool, verdict: str, sections: Iterable[str], footer: str) -> str:
    """Return a report: a heading, a line beneath it, the verdict, sections (of `section`), and a footer."""
    word = "pass" if good else "fail"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(heading)}: {word}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(heading)}</h1>
<p class="lead">{escape(lead)}</p>
<p class="verdict {word}" role="status"><b>{word.upper()}</b>{escape(verdict)}</p>
{"".join(sections)}
<footer>{escape(footer)}</footer>
</main>
</body>
</html>
"""


def section(title: str, body: str) -> str:
    """Return a section with a title, or nothing where there is no body."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>\n" if body else ""


def table(kind: str, head: list[str], rows: Iterable[str]) -> str:
    """Return a table of rows (of `row`); ``kind`` is its class in the style sheet."""
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    start = f"<thead><tr>{cells}</tr></thead>\n" if head else ""
    return f'<div class="card"><table class="{kind}">\n{start}<tbody>\n{"".join(rows)}</tbody>\n</table></div>'


def row(label: str, cells: list[str]) -> str:
    """Return a row with its label in front."""
    return f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>\n'


def numbers(kind: str, note: str, head: str, labels: list[str], rows: Iterable[tuple[str, list[str], bool]]) -> str:
    """Return a table of numbers with a note above it; a row is its name, its cells, and whether it passed.

    On a narrow screen a row becomes a block in which every number carries its label.
    """
    body = []
    for name, cells, good in rows:
        columns = "".join(
            f'<td class="number" data-label="{escape(label)}">{escape(cell)}</td>'
            for label, cell in zip(labels, cells, strict=True)
        )
        start = "<tr>" if good else '<tr class="failed">'
        body.append(f'{start}<th scope="row">{escape(name)}</th>{columns}</tr>\n')
    columns = "".join(f'<th scope="col" class="number">{escape(label)}</th>' for label in labels)
    return (
        f'<p class="lead">{escape(note)}</p>\n<div class="card"><table class="{kind}">\n'
        f'<thead><tr><th scope="col">{escape(head)}</th>{columns}</tr></thead>\n'
        f"<tbody>\n{''.join(body)}</tbody>\n</table></div>"
    )


def pairs(values: Mapping[str, Any]) -> str:
    """Return a table of names and values."""
    return table("pairs", [], (row(str(key), [_shown(value)]) for key, value in values.items())) if values else ""


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def details(summary: str, value: Any) -> str:
    """Return a value as JSON that unfolds."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return f'<details class="card"><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>'


def links(targets: Mapping[str, str]) -> str:
    """Return links by their text; a target is a path relative to the report, such as a file beside it."""
    items = (f'<li><a href="{escape(target)}">{escape(text)}</a></li>' for text, target in targets.items())
    return f"<ul>{''.join(items)}</ul>" if targets else ""


def figure(caption: str, png: bytes) -> str:
    """Return a PNG file with its caption."""
    text, data = escape(caption), base64.b64encode(png).decode("ascii")
    return (
        f'<figure><div class="paper"><img src="data:image/png;base64,{data}" alt="{text}"></div>'
        f"<figcaption>{text}</figcaption></figure>\n"
    )
