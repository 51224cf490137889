"""What the commands say of specs, weights files and themselves, on both twins."""

import dataclasses
import json
import re
from dataclasses import replace

import pytest

from ae_core.commands import menu
from ae_core.files.weights import checksum, load_weights
from ae_core.spec import BatchNorm, DenseBackbone, spec_to_json
from ae_core.spec.presets import PRESETS
from ae_core.tests.commands.command_line import PLAIN, TWINS, VAE, run


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(("name", "parameters"), [("foster-ae", "343,043"), ("foster-vae", "347,141")])
def test_info_of_a_preset(capsys, twin, name, parameters):
    assert run(twin, "info", "--preset", name) == 0
    text = capsys.readouterr().out
    assert json.loads(text[: text.index("\n}\n") + 3]) == spec_to_json(PRESETS[name])
    assert text.endswith(f"\n{parameters} parameters\n")
    assert "sha256" not in text


@pytest.mark.parametrize("twin", TWINS)
def test_info_of_a_weights_file(capsys, weights, twin):
    assert run(twin, "info", "--weights", weights["vae"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text[: text.index("\n}\n") + 3]) == spec_to_json(VAE)
    tensors = load_weights(weights["vae"]).tensors
    rows = [line.split() for line in text.splitlines() if line.startswith(("encoder.", "bottleneck.", "decoder."))]
    assert [(row[0], row[-1]) for row in rows] == [(name, checksum(tensors[name])) for name in sorted(tensors)]
    assert text.endswith(f"\n{sum(tensor.size for tensor in tensors.values()):,} parameters\n")


def test_info_counts_no_running_statistics(tmp_path, capsys):
    spec = replace(PLAIN, backbone=DenseBackbone((6,), norm=BatchNorm()))
    (tmp_path / "spec.json").write_text(json.dumps(spec_to_json(spec)))
    assert run("torch", "info", "--spec", tmp_path / "spec.json") == 0
    text = capsys.readouterr().out
    # 64·6 and its norm's 2·6, 6·2 without bias, 2·6 and the norm's 2·6, 6·64 + 64
    assert text.endswith("\n880 parameters\n")
    assert "running_mean" in text


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", ["", "train", "encode", "decode", "reconstruct", "sample", "atlas", "info"])
def test_help_comes_from_the_dataclasses(monkeypatch, capsys, twin, name):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        run(twin, *([name] if name else []), "--help")
    assert caught.value.code == 0
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert f"ae-{twin}" in text
    if not name:
        names = ("train", "encode", "decode", "reconstruct", "sample", "atlas", "info")
        assert all(command in text for command in names)
        assert "leaves weights, report and figures in a folder" in text
        return
    command = getattr(menu, name.capitalize())
    for field in dataclasses.fields(command):
        if field.name != "data_options":
            assert f"--{field.name.replace('_', '-')} " in text
    expected = {
        "train": "Of the split, initial weights, batch order and noise.",
        "encode": "Images of another size: refused (exact), centred in zeros (pad), or stretched, bilinear (resize).",
        "decode": "Codes, [N, *latent shape], as .npy.",
        "reconstruct": "Overwrite the output file.",
        "sample": "prior: the bottleneck's own, N(0, I) of a Gaussian one; the others are fitted to the codes",
        "atlas": "The most images to show, evenly chosen; fewer where they are large.",
        "info": "JSON file with a spec.",
    }
    assert expected[name] in text
