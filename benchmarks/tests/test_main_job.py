"""The main job from end to end on a small model, and with a fault planted in one twin."""

import json
import re
import subprocess
import sys

import pytest

import ae_torch.model.likelihood
from ae_core.commands.shell import run_program
from ae_core.data import DataOptions
from benchmarks.main_job.job import MainJob, run_main_job

TRAINED = {"losses", "heldout_loss", "images_per_second", "seconds", "variant"}
FIGURES = {"reconstructions.png", "loss.png", "latent.png", "grid.png", "throughput.png"}
SMALL = ["--preset", "dense-digits", "--data", "digits", "--epochs", "2"]


def main(options):
    return run_program("python -m benchmarks", lambda: run_main_job(options))


def small(out, **changes):
    return MainJob(**{"out": out, "preset": "dense-digits", "data": "digits", "epochs": 2, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("main") / "run"
    command = [sys.executable, "-m", "benchmarks", *SMALL, "--out", str(out), "--seed", "3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return out, result.stdout, json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_report_has_what_it_promises(done):
    _, _, report = done
    assert {"schema", "environment", "spec", "data", "parity", "training", "verdict"} <= report.keys()
    assert report["verdict"] == "pass"
    assert report["seed"] == 3
    assert report["spec"]["input_shape"] == [8, 8, 1]
    assert report["spec"]["training"]["epochs"] == 2
    assert report["data"]["name"] == "digits"
    assert len(report["parity"]) > 50
    for check in report["parity"]:
        assert check.keys() == {"name", "worst", "limit", "passed"}
        assert check["passed"]
        assert check["worst"] <= check["limit"] == 1e-11
    for twin in ("jax", "torch"):
        assert report["training"][twin].keys() >= TRAINED
        assert len(report["training"][twin]["losses"]) == 2
        rate = report["training"][twin]["images_per_second"]
        assert rate is None or rate > 0  # None: over too soon to be measured


def test_twins_trained_on_the_same_numbers(done):
    """From the same weights on the same batches, the first epoch's mean loss differs by float32 rounding alone.

    26 steps of Adam with losses near 0.5: rounding of 2⁻²⁴ per operation, √K of them in sums of K = 64 products, and
    a factor of a few for each of the steps stay below 1e-4; another batch order or another start differs by 1e-2.
    """
    _, _, report = done
    ours, theirs = (report["training"][twin]["losses"][0] for twin in ("jax", "torch"))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_folder_and_last_line(done):
    out, printed, _ = done
    assert {path.name for path in out.iterdir()} == FIGURES | {
        "jax",
        "torch",
        "initial.safetensors",
        "report.json",
        "report.html",
        "atlas.html",
    }
    page = (out / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<a href="([^"]*)"', page) == ["atlas.html"]
    assert printed.splitlines()[-1] == f"report and figures: {out / 'report.html'}"
    assert "The twins are the same model" in printed


def test_planted_fault_fails_and_shows_no_throughput(tmp_path, monkeypatch, capsys):
    right = ae_torch.model.likelihood.Bernoulli.negative_log_likelihood
    monkeypatch.setattr(
        ae_torch.model.likelihood.Bernoulli,
        "negative_log_likelihood",
        lambda self, output, x: right(self, output, x) * (1 + 1e-10),
    )
    out = tmp_path / "run"
    assert main(small(out)) == 1
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "fail"
    assert report["training"] == {}
    assert not all(check["passed"] for check in report["parity"])
    assert {path.name for path in out.iterdir()} == {"report.json", "report.html"}
    shown = capsys.readouterr()
    for text in (shown.out, shown.err, (out / "report.html").read_text(encoding="utf-8")):
        assert "images per second" not in text
    assert "FAIL" in shown.out


def test_dead_twin_fails(tmp_path, monkeypatch, capsys):
    """A twin that cannot train fails the job, whatever the parity checks say."""
    import benchmarks.main_job.job

    real = benchmarks.main_job.job._flags
    monkeypatch.setattr(benchmarks.main_job.job, "_flags", lambda *a: [*real(*a), "--learning-rate", "-1"])
    assert main(small(tmp_path / "run")) == 1
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "fail"
    assert report["training"] == {}
    assert "images per second" not in capsys.readouterr().out


BAD = {
    "unknown preset": ({"preset": "foster-ea"}, 'did you mean "foster-ae"?'),
    "unknown data": ({"data": "diggits"}, 'did you mean "digits"?'),
    "another size": ({"preset": "foster-ae"}, "--fit"),
    "no epochs": ({"epochs": 0}, "epochs: given 0"),
    "an odd fraction": ({"heldout": 1.5}, "held-out fraction"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, tmp_path, capsys):
    changes, expected = BAD[name]
    assert main(small(tmp_path / "run", **changes)) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_never_overwrites(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    assert main(small(tmp_path / "run")) == 2
    assert "--force" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_data_options_reach_both_twins(tmp_path):
    """Enlarged digits: the flags of the nested options travel to the twins' own command lines."""
    spec = tmp_path / "spec.json"
    from ae_core import preset, spec_to_json

    value = spec_to_json(preset("dense-digits")) | {"input_shape": [10, 9, 1]}
    spec.write_text(json.dumps(value), encoding="utf-8")
    options = DataOptions(fit="resize")
    job = small(tmp_path / "run", preset=None, spec=spec, data_options=options, epochs=1)
    assert main(job) == 0
    for twin in ("jax", "torch"):
        run = json.loads((tmp_path / "run" / twin / "report.json").read_text(encoding="utf-8"))
        assert run["data"]["shape"] == [1797, 10, 9, 1]
        assert run["data"]["fit"] == "resize"
