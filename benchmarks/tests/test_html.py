"""The report: complete, harmless, self-contained, and silent about the speed of models that differ."""

import copy
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from benchmarks.main_job.html import render
from benchmarks.main_job.table import strain, summary, verdict

Report = dict[str, Any]

PNG = b"\x89PNG\r\n\x1a\nnot quite"


def _training(rate: float | None, variant: str) -> Report:
    return {
        "losses": [3.0, 2.0],
        "heldout_loss": 84.2135,
        "heldout_mse": 0.25,
        "pca_mse": 0.5,
        "images_per_second": rate,
        "seconds": 76.5,
        "variant": variant,
    }


PASS: Report = {
    "schema": "twin-autoencoders/report/1",
    "environment": {"device": "one <CPU>", "jax": "0.10.0"},
    "spec": {"backbone": {"kind": "conv", "eps": 0.001}},
    "data": {"name": "cans", "train": 9000, "heldout": 1000},
    "parity": [
        {"name": "forward", "worst": 0.0, "limit": 1e-11, "passed": True},
        {"name": "gradients of decoder.blocks.0.conv.weight", "worst": 2e-13, "limit": 1e-11, "passed": True},
        {"name": "loss", "worst": 4e-13, "limit": 1e-10, "passed": True},
    ],
    "training": {"jax": _training(4321.0, "jit, fori_loop"), "torch": _training(2160.5, "eager")},
    "verdict": "pass",
}
SPEED = ("4,321", "4321", "2,160", "2160", "76.5", "images per second", "relative to PyTorch")


def _failed(*worst: float | None) -> Report:
    report = copy.deepcopy(PASS)
    report["verdict"] = "fail"
    for check, value in zip(report["parity"], worst, strict=False):
        if value is None or value > check["limit"]:
            check.update(worst=value, passed=False)
    return report


def _changed(**changes: Any) -> Report:
    return copy.deepcopy(PASS) | changes


def _terminal(report: Report, width: int = 80) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(summary(report))
    return text.getvalue()


class _Page(HTMLParser):
    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        if tag == "tr":
            self.rows.append([])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            assert "url(" not in data
            assert "@import" not in data
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


@pytest.mark.parametrize("report", [PASS, _failed(1.0), _changed(training={}), _changed(parity=[], verdict="fail")])
def test_page_is_well_formed_and_self_contained(report: Report) -> None:
    page = _Page(render(report, {"Reconstructions.": PNG}))
    assert page.open == []
    assert page.links == ["data:image/png;base64,iVBORw0KGgpub3QgcXVpdGU="]
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "Reconstructions." in page.text


def test_what_failed_is_in_a_table_of_its_own() -> None:
    report = _changed(failed=[{"what": "loss.png", "why": "no ink"}, {"what": "grid.png", "why": "no paper"}])
    page = _Page(render(report, {}))
    assert ["loss.png", "no ink"] in page.rows
    assert ["grid.png", "no paper"] in page.rows
    assert "What failed" in page.text
    assert "FAILED  grid.png: no paper" in _terminal(report)
    assert "What failed" not in _Page(render(PASS, {})).text
    assert "FAILED" not in _terminal(PASS)


def test_what_lies_beside_the_page_is_linked() -> None:
    page = _Page(render(PASS, {}, {"The map": "atlas.html"}))
    assert page.links == ["atlas.html"]
    assert "The map" in page.text
    assert "Beside this page" not in _Page(render(PASS, {})).text


def test_everything_is_there() -> None:
    page = _Page(render(PASS, {}))
    for row in [
        ["forward", "0", "1.0e-11", "exact", "pass"],
        ["gradients of decoder.blocks.0.conv.weight", "2.0e-13", "1.0e-11", "50 ×", "pass"],
        ["loss", "4.0e-13", "1.0e-10", "250 ×", "pass"],
        ["Twin", "JAX", "PyTorch"],
        ["held-out loss", "84.2135", "84.2135"],
        ["MSE relative to PCA", "0.50 ×", "0.50 ×"],
        ["images per second", "4,321", "2,160"],
        ["speed relative to PyTorch", "2.00 ×", "1.00 ×"],
        ["training, seconds", "76.5", "76.5"],
        ["variant", "jit, fori_loop", "eager"],
        ["device", "one <CPU>"],
    ]:
        assert row in page.rows
    assert "One model, written in JAX and in PyTorch, on cans, 9,000 training and 1,000 held-out images." in page.text
    assert '"eps": 0.001' in "".join(page.text)


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (PASS, "The twins are the same model: 3 checks, worst 2.0e-13 of limit 1.0e-11"),
        (
            _failed(1e-10),
            "The twins are not the same model: 1 of 3 checks failed, worst forward: 1.0e-10, limit 1.0e-11",
        ),
        (
            _failed(1e-3, 2e-3, 1e-2),
            "The twins are not the same model: 3 of 3 checks failed, "
            "worst gradients of decoder.blocks.0.conv.weight: 2.0e-03, limit 1.0e-11",
        ),
        (
            _failed(1e-3, 2e-3, None),
            "The twins are not the same model: 3 of 3 checks failed, worst loss: not finite, limit 1.0e-10",
        ),
        (_changed(parity=[]), "Nothing is proven: no check was run"),
        (
            _changed(verdict="fail"),
            "The run failed, although the twins agree: 3 checks, worst 2.0e-13 of limit 1.0e-11",
        ),
        (
            _changed(verdict="fail", message="JAX ended"),
            "The run failed, although the twins agree: 3 checks, worst 2.0e-13 of limit 1.0e-11; JAX ended",
        ),
        (
            _changed(failed=[{"what": "loss.png", "why": "no ink"}, {"what": "grid.png", "why": "no paper"}]),
            "The twins are the same model: 3 checks, worst 2.0e-13 of limit 1.0e-11; "
            "what failed beside it: loss.png, grid.png",
        ),
    ],
)
def test_verdict(report: Report, sentence: str) -> None:
    assert verdict(report) == sentence
    assert sentence in _Page(render(report, {})).text
    assert sentence in " ".join(_terminal(report).split())


@pytest.mark.parametrize(
    "report",
    [_failed(1e-3), _failed(None), _changed(verdict="fail"), _changed(parity=[]), _failed(1e-3) | {"verdict": "pass"}],
)
def test_no_speed_without_proof(report: Report) -> None:
    assert report["training"]
    for text in (render(report, {}), _terminal(report)):
        assert "FAIL" in text
        assert "PASS" not in text
        assert not [speed for speed in SPEED if speed in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)]
    for text in (render(PASS, {}), _terminal(PASS)):
        assert "4,321" in text


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=http://x>', "[red]&amp;</pre>"])
def test_names_are_only_text(hostile: str) -> None:
    def named(name: str) -> Report:
        return _changed(
            data={"name": name},
            environment={name: name},
            spec={name: name},
            parity=[{"name": name, "worst": 0.0, "limit": 1.0, "passed": True}],
            training={"jax": _training(1.0, name)},
            schema=name,
            failed=[{"what": name, "why": name}],
        )

    page = render(named(hostile), {hostile: PNG}, {hostile: "atlas.html"})
    assert hostile not in page
    assert _Page(page).tags == _Page(render(named("harmless"), {"harmless": PNG}, {"harmless": "atlas.html"})).tags
    assert all(str(link).startswith(("data:image/png;base64,", "atlas.html")) for link in _Page(page).links)
    assert sum(hostile in text for text in _Page(page).text) >= 6
    assert hostile in _terminal(named(hostile), width=200)


@pytest.mark.parametrize(
    ("rate", "cells"), [(None, ["not measured", "—"]), (12.345, ["12.3", "0.01 ×"]), (1000.0, ["1,000", "0.46 ×"])]
)
def test_speed_in_words(rate: float | None, cells: list[str]) -> None:
    report = _changed(training={"jax": _training(rate, "jit"), "torch": _training(2160.5, "eager")})
    rows = {row[0]: row[1] for row in _Page(render(report, {})).rows if len(row) == 3}
    assert [rows["images per second"], rows["speed relative to PyTorch"]] == cells


@pytest.mark.parametrize(
    ("worst", "limit", "expected"),
    [
        (0.0, 0.0, 0.0),
        (1e-9, 0.0, float("inf")),
        (None, 1.0, float("inf")),
        (float("nan"), 1.0, float("inf")),
        (1, 4, 0.25),
    ],
)
def test_strain(worst: float | None, limit: float, expected: float) -> None:
    assert strain({"worst": worst, "limit": limit}) == expected


def test_terminal_is_narrow_enough() -> None:
    lines = _terminal(PASS).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["speed", "relative", "to", "PyTorch", "2.00", "×", "1.00", "×"] for line in lines)
