"""The atlas in a real browser: what it decodes, and what pointer, touch and keys do."""

import re

import numpy as np
import pytest

from ae_core.atlas.page_decoder import spots_to_measure
from ae_core.tests.atlas.atlas_pages import (
    PAGES,
    Page,
    alone,
    canvas,
    frames_are_there,
    opened,
    place,
    same_picture,
    shown,
)
from ae_core.tests.atlas.browser import CHROMIUM, browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; Debian's package is called chromium")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("pages"), {}

    def page(name):
        if name not in made:
            made[name] = Page(folder, name)
        return made[name]

    return page


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_as_far_from_the_decoder_as_it_says(chromium, pages, name):
    page = pages(name)
    opened(chromium, page)
    spots, points = spots_to_measure(page.codes, page.content.plane, page.content.view)
    if PAGES[name][2] == "grid":
        spots, given = page.content.plane.codes(points), points[:, : page.values["width"]]
    else:
        given = spots
    pictures = chromium.run(f"{given.tolist()}.map((z) => atlas.decode(z))")
    true = page.model.decode(spots)
    assert np.std(true, axis=0).max() > 0.01
    # as a screen shows them, which matters for means that are not probabilities
    difference = np.clip(np.array(pictures).reshape(true.shape), 0, 1) - np.clip(true, 0, 1)
    said = page.values["distance"]
    assert len(spots) == said["spots"]
    # the page computes in float64, whose rounding, 2⁻⁵³, is 2⁻²⁹ of the float32 rounding that makes the smallest of
    # these distances; a thousandfold of it for sums in another order and exp of another library
    assert np.abs(difference).max() == pytest.approx(said["largest"], rel=1000 * 2**-29)
    assert np.sqrt(np.mean(difference**2)) == pytest.approx(said["rms"], rel=1000 * 2**-29)
    text = chromium.run("at('how').textContent")
    assert ("Blended" if PAGES[name][2] == "grid" else "Exact") in text
    # two digits are written: half a step of the second is 5 % of 1.0 at most
    assert _numbers(text) == pytest.approx([said["largest"], said["rms"]], rel=0.0501)
    assert chromium.complaints() == []
    assert chromium.requests() == []


def _numbers(text):
    """Return the numbers that stand behind "largest" and "square", written as 0.012 or 1.2·10⁻⁷."""
    found = re.findall(r"(?:largest|square) ([0-9.]+)(?:·10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text)
    plain = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    return [float(digits) * 10.0 ** int(power.translate(plain) or 0) for digits, power in found]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_small_and_complete(chromium, pages, name):
    page = pages(name)
    assert page.path.stat().st_size < 5_000_000
    opened(chromium, page)
    assert chromium.run("at('near').children.length") == 6
    assert chromium.run("at('slider-card').hidden") == (not page.values["sliders"])
    assert bool(page.values["sliders"]) == (name in ("wide", "layer norm"))
    assert chromium.run("at('colour-choice').hidden") == (name == "line")
    for k in range(len(page.values["colours"])):
        before = chromium.run("at('legend').textContent")
        chromium.run(f"at('colour').value = {k}; at('colour').dispatchEvent(new Event('change'))")
        chromium.settle()
        assert (chromium.run("at('legend').textContent") != before) == (k > 0)
    chromium.run("at('between').click()")
    chromium.settle()
    assert chromium.complaints() == []


def test_hovering_decodes_the_spot_under_the_pointer(chromium, pages):
    page = pages("digits")
    opened(chromium, page)
    start, before = shown(chromium), canvas(chromium)
    x0, x1, y0, y1 = page.content.view
    seen = []
    for share in (0.2, 0.8):
        point = (x0 + share * (x1 - x0), y0 + 0.5 * (y1 - y0))
        chromium.mouse("mouseMoved", *place(chromium, point))
        # a pixel of the screen is a 700th of the view or less
        assert shown(chromium) == pytest.approx(point, abs=max(x1 - x0, y1 - y0) / 300)
        same_picture(chromium, page, shown(chromium))
        assert "under the pointer" in chromium.run("at('where').textContent")
        seen.append(canvas(chromium))
    assert (seen[0] != seen[1]).any()
    chromium.mouse("mouseMoved", 5, 5)
    assert shown(chromium).tolist() == start.tolist()
    assert (canvas(chromium) == before).all()
    assert chromium.complaints() == []


@pytest.mark.parametrize("name", ["digits", "grid"])
def test_two_clicks_are_a_walk(chromium, pages, name):
    page = pages(name)
    opened(chromium, page)
    a, b = alone(chromium)
    points = chromium.run("POINTS")
    chromium.click(*place(chromium, points[a]))
    assert "now click another" in chromium.run("at('walk-hint').textContent")
    assert chromium.run("at('frames').hidden")
    chromium.click(*place(chromium, points[b]))
    frames_are_there(chromium)
    ends = np.array([chromium.run(f"Array.from(codeOf({i}))") for i in (a, b)])
    for k in range(11):
        selector = f"#frames li:nth-child({k + 1}) canvas"
        same_picture(chromium, page, ends[0] + k / 10 * (ends[1] - ends[0]), selector)
    chromium.mouse("mouseMoved", 5, 5)
    assert shown(chromium) == pytest.approx(ends[1])
    chromium.run("at('along').value = 0.25; at('along').dispatchEvent(new Event('input'))")
    chromium.settle()
    assert shown(chromium) == pytest.approx(0.75 * ends[0] + 0.25 * ends[1])
    same_picture(chromium, page, shown(chromium))
    assert chromium.complaints() == []


def test_the_nearest_real_pictures_are_beside(chromium, pages):
    page = pages("wide")
    opened(chromium, page)
    chromium.mouse("mouseMoved", *place(chromium, (0.3, 0.2)))
    far = np.linalg.norm(page.codes.astype(np.float64) - shown(chromium), axis=1)
    nearest = np.argsort(far, kind="stable")[:6]
    images = PAGES["wide"][1].images[page.content.indices[nearest]]
    names = page.values["colours"][0]["names"]
    for k, i in enumerate(nearest):
        cell = f"#near li:nth-child({k + 1})"
        np.testing.assert_array_equal(canvas(chromium, f"{cell} canvas")[..., :3], np.rint(255 * images[k]))
        label = PAGES["wide"][1].labels[page.content.indices[i]]
        assert chromium.run(f"document.querySelector('{cell}').textContent") == f"{names[label]}{far[i]:.2f} away"


def test_dragging_records_a_way(chromium, pages):
    page = pages("digits")
    opened(chromium, page)
    x0, x1, y0, y1 = page.content.view
    corners = [(x0 + a * (x1 - x0), y0 + b * (y1 - y0)) for a, b in ((0.1, 0.1), (0.5, 0.1), (0.5, 0.5))]
    chromium.mouse("mouseMoved", *place(chromium, corners[0]))
    chromium.mouse("mousePressed", *place(chromium, corners[0]), down=True)
    seen = []
    for corner in corners[1:]:
        chromium.mouse("mouseMoved", *place(chromium, corner), down=True)
        same_picture(chromium, page, shown(chromium))
        seen.append(canvas(chromium))
    assert (seen[0] != seen[1]).any()
    chromium.mouse("mouseReleased", *place(chromium, corners[2]))
    assert "dragged" in chromium.run("at('walk-hint').textContent")
    frames_are_there(chromium)
    frames = [canvas(chromium, f"#frames li:nth-child({k + 1}) canvas") for k in range(11)]
    assert (frames[-1] == seen[1]).all()
    assert sum((a != b).any() for a, b in zip(frames[1:], frames[:-1], strict=True)) >= 5
    assert chromium.complaints() == []


def test_everything_goes_by_keys(chromium, pages):
    page = pages("wide")
    opened(chromium, page)
    for _ in range(5):
        chromium.key("Tab")
        if chromium.run("document.activeElement.id") == "plane":
            break
    assert chromium.run("document.activeElement.id") == "plane"
    assert chromium.run("parseFloat(getComputedStyle(at('plane')).outlineWidth)") >= 2
    axes, (x0, x1, y0, y1) = page.content.plane.axes, page.content.view
    for key, shift, way in (
        ("ArrowLeft", False, -0.02 * (x1 - x0) * axes[0]),
        ("ArrowUp", False, 0.02 * (y1 - y0) * axes[1]),
        ("ArrowLeft", True, -0.1 * (x1 - x0) * axes[0]),
    ):
        before = shown(chromium)
        chromium.key(key, shift)
        assert shown(chromium) - before == pytest.approx(way, abs=1e-9)
        same_picture(chromium, page, shown(chromium))
    chromium.key("Escape")
    assert chromium.run("at('frames').hidden")
    for _ in range(2):
        distances = np.linalg.norm(page.codes - shown(chromium), axis=1)
        chromium.key("Enter")
        assert shown(chromium) == pytest.approx(page.codes[distances.argmin()])
        for _ in range(4):
            chromium.key("ArrowRight", shift=True)
    frames_are_there(chromium)
    said = "at('said').textContent"
    chromium.wait(f"{said}.startsWith('Spot at')")
    assert chromium.complaints() == []


def test_a_slider_decodes_its_latent(chromium, pages):
    page = pages("wide")
    opened(chromium, page)
    assert chromium.run("document.querySelectorAll('#sliders input').length") == 5
    slider = page.values["sliders"][1]
    chromium.run("document.querySelectorAll('#sliders input')[1].focus()")
    before, picture = shown(chromium), canvas(chromium)
    for _ in range(5):
        chromium.key("ArrowLeft" if before[slider["latent"]] > (slider["low"] + slider["high"]) / 2 else "ArrowRight")
    moved = shown(chromium) - before
    assert abs(moved[slider["latent"]]) == pytest.approx(0.1 * (slider["high"] - slider["low"]), rel=1e-6)
    assert np.delete(moved, slider["latent"]).tolist() == [0, 0, 0, 0]
    same_picture(chromium, page, shown(chromium))
    assert (canvas(chromium) != picture).any()
    assert "off the plane" in chromium.run("at('where').textContent")
    chromium.run("at('back').click()")
    chromium.settle()
    assert "off the plane" not in chromium.run("at('where').textContent")


def test_touch(chromium, pages):
    page = pages("digits")
    opened(chromium, page, 375, 812, touch=True)
    x0, x1, y0, y1 = page.content.view
    start, end = ((x0 + a * (x1 - x0), y0 + a * (y1 - y0)) for a in (0.2, 0.7))
    chromium.touch("touchStart", place(chromium, start))
    assert shown(chromium) == pytest.approx(start, abs=max(x1 - x0, y1 - y0) / 100)
    chromium.touch("touchMove", place(chromium, end))
    same_picture(chromium, page, shown(chromium))
    chromium.touch("touchEnd")
    assert "dragged" in chromium.run("at('walk-hint').textContent")
    a, b = alone(chromium)
    for i in (a, b):
        point = place(chromium, chromium.run(f"POINTS[{i}]"))
        chromium.touch("touchStart", point)
        chromium.touch("touchEnd")
    assert shown(chromium) == pytest.approx(chromium.run(f"Array.from(codeOf({b}))"))
    assert "straight line" in chromium.run("at('walk-hint').textContent")
    assert chromium.complaints() == []


def test_a_class_alone(chromium, pages):
    opened(chromium, pages("digits"))
    before = canvas(chromium, "#plane")
    assert chromium.run("at('legend').children.length") == 10
    chromium.run("at('legend').children[3].click()")
    chromium.settle()
    assert (canvas(chromium, "#plane") != before).any()
    assert chromium.run("at('legend').children[3].getAttribute('aria-pressed')") == "true"
    chromium.run("at('legend').children[3].click()")
    chromium.settle()
    assert (canvas(chromium, "#plane") == before).all()


@pytest.mark.parametrize("width", [320, 375, 768, 1280, 2000])
@pytest.mark.parametrize("name", ["wide", "grid"])
def test_no_width_needs_scrolling_sideways(chromium, pages, name, width):
    opened(chromium, pages(name), width, 800)
    assert chromium.run("document.documentElement.scrollWidth") <= width
    # the frames of a walk scroll in their own box
    beyond = f"!e.closest('#frames') && e.getBoundingClientRect().right > {width + 1}"
    found = f"[...document.querySelectorAll('body *')].filter((e) => {beyond}).map((e) => e.tagName + e.id)"
    assert chromium.run(found) == []


def test_dark_and_light(chromium, pages):
    brightness = []
    for dark in (False, True):
        opened(chromium, pages("digits"), dark=dark)
        colours = chromium.run(
            "['backgroundColor', 'color'].map((k) => getComputedStyle(document.body)[k].match(/[0-9.]+/g).map(Number))"
        )
        brightness.append([sum(colour[:3]) / 3 for colour in colours])
        # points can be told from the plane: many of its pixels are neither transparent nor its colour
        pixels = canvas(chromium, "#plane")
        assert (pixels[..., 3] > 200).mean() > 0.005
    (light, ink), (night, chalk) = brightness
    assert light > 200 > 80 > ink
    assert night < 40 < 180 < chalk


def test_whatever_can_be_used_has_a_name(chromium, pages):
    opened(chromium, pages("wide"))
    chromium.call("Accessibility.enable")
    nodes = [n for n in chromium.call("Accessibility.getFullAXTree")["nodes"] if not n["ignored"]]
    chromium.call("Accessibility.disable")
    roles = {}
    for node in nodes:
        roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert len(roles["slider"]) == 6
    assert len(roles["button"]) >= 6 + 11 + 10
    assert roles["application"] == ["Plane of codes"]
    for role in ("slider", "button", "combobox", "checkbox", "application", "image"):
        assert all(name.strip() for name in roles[role]), role
