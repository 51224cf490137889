"""An atlas as one web page: markup, style, script and data in one file, nothing from anywhere else."""

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ae_core.atlas.content import Content

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

SCRIPTS = ("decoder.js", "view.js", "spot.js", "walk.js", "atlas.js")


def render(content: Content, model: str) -> str:
    """Return the page; ``model`` says in a few words whose decoder it is."""
    values = content.values
    noun = values["noun"]
    shown, of = values["shown"], values["all"]
    part = f"{shown:,} {noun}s" if shown == of else f"{shown:,} of {of:,} {noun}s, evenly chosen"
    return Template(_read("atlas.html")).substitute(
        title=escape(f"Atlas of {values['name']}"),
        lead=escape(
            f"{part}, each where the encoder put it; a code has {values['code']}. "
            "Point anywhere: the decoder makes what would be there."
        ),
        noun=escape(noun),
        how=escape(_how(values)),
        model=escape(model),
        style=_read("atlas.css"),
        data=_script_json(values),
        script="\n".join(_read(name) for name in SCRIPTS),
    )


def _how(values: dict[str, Any]) -> str:
    """Say how the page decodes, and how far its pictures are from the model's."""
    decoder, far = values["decoder"], values["distance"]
    numbers = f"largest {_number(far['largest'])}, root mean square {_number(far['rms'])}"
    measured = (
        f"Measured when the page was made, at {far['spots']} spots, the difference to the model's own decode, with "
        f"black as 0 and white as 1: {numbers} of a pixel."
    )
    limit = f"{_number(values['limit'])}, a step of a screen"
    wide = values["latent"] > 2
    if decoder["kind"] == "page":
        everywhere = f" Sliders and walks go through all {values['latent']:,} latents." if wide else ""
        return (
            f"Exact: the decoder itself is in this page, all its {decoder['numbers']:,} numbers as "
            f"{decoder['storage']}, and runs on every movement.{everywhere} {measured} Above {limit}, there would be a "
            f"grid of pictures in its place."
        )
    flat = (
        " It knows nothing beyond this plane: walks and distances are those in it, and there are no sliders."
        if wide
        else ""
    )
    return (
        f"Blended: in place of the decoder this page has {decoder['columns']} × {decoder['rows']} pictures that it "
        f"made, of which the four around a spot are blended.{flat} Why not the decoder itself: {values['reason']}. "
        f"{measured} A step of a screen is 0.0039."
    )


def _number(value: float) -> str:
    """Return two digits of a number, such as 2.9·10⁻⁷."""
    if value == 0 or value >= 0.001:
        return f"{value:.2g}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}·10{str(int(power)).translate(_RAISED)}"


def _script_json(values: dict[str, Any]) -> str:
    """Return JSON for a script element, which no text in it can close."""
    return json.dumps(values, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _read(name: str) -> str:
    return files("ae_core.atlas").joinpath(name).read_text(encoding="utf-8")
