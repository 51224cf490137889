"""The main job from end to end on a small model, and with a fault planted in one twin."""

import json
import re
import shutil
import subprocess
import sys

import pytest

import ae_torch.model.likelihood
import benchmarks.main_job.job
from ae_core import atlas
from ae_core.commands.shell import run_program
from ae_core.data import DataOptions
from ae_core.errors import OutputError
from ae_core.figures import charts
from benchmarks.main_job.job import MainJob, run_main_job
from parity_tests.check import Check

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
    result = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr
    return out, result.stdout, json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_report_has_what_it_promises(done):
    _, _, report = done
    assert {"schema", "environment", "spec", "data", "parity", "training", "verdict"} <= report.keys()
    assert report["verdict"] == "pass"
    assert report["failed"] == []
    assert "message" not in report
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
    real = benchmarks.main_job.job._flags
    monkeypatch.setattr(benchmarks.main_job.job, "_flags", lambda *a: [*real(*a), "--learning-rate", "-1"])
    assert main(small(tmp_path / "run")) == 1
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "fail"
    assert report["training"] == {}
    said = capsys.readouterr()
    assert "images per second" not in said.out
    assert "PyTorch ended" not in said.err
    for text in (" ".join(said.out.split()), (tmp_path / "run" / "report.html").read_text(encoding="utf-8")):
        assert "The run failed, although the twins agree" in text
        assert "JAX ended with exit status 2" in text


@pytest.fixture
def trained(done, monkeypatch):
    """Let the job take over the training of another one, and its proof."""
    out, _, report = done

    def train(options, spec, tensors, console, ours):
        for twin in ("jax", "torch"):
            shutil.copytree(out / twin, options.out / twin)
        ours["training"] = json.loads(json.dumps(report["training"]))
        return 0

    monkeypatch.setattr(benchmarks.main_job.job, "_train_both", train)
    monkeypatch.setattr(benchmarks.main_job.job, "check_identity", lambda *a: [Check("all", "all", 0.0, 1e-11)])
    monkeypatch.setattr(benchmarks.main_job.job, "check_wardrobe", lambda *a: [])


def _raise(error):
    def function(*args, **options):
        raise error

    return function


def _written(out):
    return json.loads((out / "report.json").read_text(encoding="utf-8")), (out / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("trained")
def test_what_fails_beside_the_proof_is_named_and_the_rest_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(atlas, "make_content", _raise(UnboundLocalError("no\nsteps <b>")))
    monkeypatch.setattr(charts, "loss_curves", _raise(OutputError("no ink")))
    monkeypatch.setattr("benchmarks.main_job.pictures.mse", _raise(ValueError()))
    out = tmp_path / "run"
    assert main(small(out)) == 0
    report, page = _written(out)
    assert report["verdict"] == "pass"
    assert [failure["what"] for failure in report["failed"]] == [
        "reconstruction_rms_difference",
        "loss.png",
        "atlas.html",
    ]
    place = r" \(test_main_job.py, line \d+\)"
    reasons = [failure["why"] for failure in report["failed"]]
    assert re.fullmatch(f"ValueError{place}", reasons[0])
    assert reasons[1] == "no ink"
    assert re.fullmatch(f"UnboundLocalError: no steps <b>{place}", reasons[2])
    assert report["after_training"]["reconstruction_rms_difference"] is None
    assert report["after_training"]["heldout_loss_difference"] >= 0
    files = {path.name for path in out.iterdir()}
    assert files == (FIGURES - {"loss.png"}) | {"jax", "torch", "report.json", "report.html"}
    shown = " ".join(capsys.readouterr().out.split())
    beside = "what failed beside it: reconstruction_rms_difference, loss.png, atlas.html"
    for text in (page, shown):
        assert "The twins are the same model" in text
        assert beside in text
        assert "no ink" in text
    assert "no steps &lt;b&gt;" in page
    assert "no steps <b>" in shown
    assert "<h2>What failed</h2>" in page
    assert 'href="atlas.html"' not in page
    assert page.count("<figure>") == len(FIGURES) - 1


@pytest.mark.usefixtures("trained")
def test_a_model_that_cannot_be_read_leaves_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.main_job.pictures.load_weights", _raise(OSError("gone")))
    assert main(small(tmp_path / "run")) == 0
    report, page = _written(tmp_path / "run")
    assert {failure["what"] for failure in report["failed"]} == {
        "reconstruction_rms_difference",
        "reconstructions.png",
        "latent.png",
        "grid.png",
        "atlas.html",
    }
    assert page.count("<figure>") == 2


@pytest.mark.usefixtures("trained")
def test_ctrl_c_while_drawing_leaves_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(charts, "latent_scatter", _raise(KeyboardInterrupt()))
    assert main(small(tmp_path / "run")) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    report, page = _written(tmp_path / "run")
    assert report["verdict"] == "pass"
    assert report["failed"] == [{"what": "figures and atlas", "why": "interrupted"}]
    assert set(report["training"]) == {"jax", "torch"}
    assert page.count("<figure>") == 2  # those before it
    assert (tmp_path / "run" / "loss.png").exists()


@pytest.mark.usefixtures("trained")
def test_a_page_that_fails_leaves_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.main_job.job, "render", _raise(TypeError("no page")))
    assert main(small(tmp_path / "run")) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert {failure["what"] for failure in report["failed"]} == {"report.html"}


def test_a_death_in_training_leaves_the_proof(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.main_job.job, "check_identity", lambda *a: [Check("all", "all", 0.0, 1e-11)])
    monkeypatch.setattr(benchmarks.main_job.job, "check_wardrobe", lambda *a: [])
    monkeypatch.setattr(benchmarks.main_job.job, "_run", _raise(RuntimeError("no processes")))
    with pytest.raises(RuntimeError, match="no processes"):
        main(small(tmp_path / "run"))
    report, page = _written(tmp_path / "run")
    assert report["verdict"] == "fail"
    assert len(report["parity"]) == 1
    assert report["message"] == "the training has not ended yet"
    assert "The run failed, although the twins agree" in page


def test_a_twins_own_failures_are_named(tmp_path, done, monkeypatch):
    """A twin that trained without its latent.png: the report of its run says so, and so does this one."""
    out, _, _ = done
    run = json.loads((out / "jax" / "report.json").read_text(encoding="utf-8"))
    run["failed"] = [{"what": "latent.png", "why": "no ink"}]
    del run["heldout"]["pca_mse"]

    def train(command):
        twin = command[2].removeprefix("ae_")
        shutil.copytree(out / twin, tmp_path / "run" / twin)
        (tmp_path / "run" / twin / "report.json").write_text(json.dumps(run), encoding="utf-8")
        return 0, ""

    monkeypatch.setattr(benchmarks.main_job.job, "check_identity", lambda *a: [Check("all", "all", 0.0, 1e-11)])
    monkeypatch.setattr(benchmarks.main_job.job, "check_wardrobe", lambda *a: [])
    monkeypatch.setattr(benchmarks.main_job.job, "_run", train)
    assert main(small(tmp_path / "run")) == 0
    report, _ = _written(tmp_path / "run")
    assert [failure["what"] for failure in report["failed"]] == ["JAX: latent.png", "PyTorch: latent.png"]
    assert report["training"]["jax"]["pca_mse"] is None


BAD = {
    "unknown preset": ({"preset": "foster-ea"}, 'did you mean "foster-ae"?'),
    "unknown data": ({"data": "diggits"}, 'did you mean "digits"?'),
    "another size": ({"preset": "foster-ae"}, "--adapt"),
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
    options = DataOptions(adapt="resize")
    job = small(tmp_path / "run", preset=None, spec=spec, data_options=options, epochs=1)
    assert main(job) == 0
    for twin in ("jax", "torch"):
        run = json.loads((tmp_path / "run" / twin / "report.json").read_text(encoding="utf-8"))
        assert run["data"]["shape"] == [1797, 10, 9, 1]
        assert run["data"]["adapt"] == "resize"
