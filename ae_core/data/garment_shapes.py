"""What each garment looks like: a function per class, which paints it on a :class:`~ae_core.data.canvas.Canvas`.

Coordinates are in units of 1/32 of the picture, ``x`` from its middle, ``y`` from its top. Garments are mirrored, shoes
point to the left. What lies on top is painted last.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from ae_core.data.canvas import AXIS, Canvas, Point, Value

# Cosine and sine at nearly even steps of a quarter turn. Fractions and roots are rounded alike on every processor.
_QUARTER = ((1.0, 0.0), (12 / 13, 5 / 13), (math.sqrt(0.5), math.sqrt(0.5)), (5 / 13, 12 / 13), (0.0, 1.0))

_SHADOW = 0.06
_WHITE = 0.97


class Look(NamedTuple):
    """The factors of n garments of one class: each is in [0, 1], but for the tone, which is the gray of the cloth."""

    length: Float32[np.ndarray, " n"]
    width: Float32[np.ndarray, " n"]
    sleeve: Float32[np.ndarray, " n"]
    tone: Float32[np.ndarray, " n"]


def tshirt(canvas: Canvas, look: Look) -> None:
    """Short, wide sleeves that stand off, a round neck, a straight hem."""
    cloth, dark = look.tone, look.tone * 0.72
    hem, side, reach = _from(look.length, 24.0, 28.5), _from(look.width, 6.0, 8.0), _from(look.sleeve, 3.8, 7.6)
    tip = (side - 0.4 + 0.8 * reach, 5.6 + 0.6 * reach)
    under = (tip[0] - 3.1, tip[1] + 4.2)
    armpit = (side - 0.2, 11.6)
    canvas.paint([(AXIS, 4.6), (3.0, 4.6), (1.8, 8.0), (AXIS, 8.0)], dark * 0.6, mirrored=True)
    neck: list[Point] = [(AXIS, 7.6), (0.0, 7.6), (1.8, 7.1), (3.2, 4.4), (side - 0.4, 5.6)]
    canvas.paint([*neck, tip, under, armpit, (side + 0.2, hem), (AXIS, hem)], cloth, mirrored=True)
    canvas.stroke((3.4, 4.6), (2.0, 7.5), 0.9, dark, mirrored=True)
    canvas.stroke((2.2, 7.4), (-0.3, 8.1), 0.9, dark, mirrored=True)
    canvas.stroke((side - 0.6, 6.2), armpit, 0.6, dark, mirrored=True)
    canvas.stroke((tip[0] - 0.8, tip[1] - 0.4), (under[0] - 0.7, under[1] - 0.5), 0.6, dark, mirrored=True)
    canvas.stroke((AXIS, hem - 1.3), (side + 0.1, hem - 1.3), 0.5, dark, mirrored=True)


def trouser(canvas: Canvas, look: Look) -> None:
    """Two creased legs, with a waistband, its button, a fly and pockets."""
    cloth, dark = look.tone, look.tone * 0.6
    hem, waist, foot = _from(look.length, 25.5, 30.5), _from(look.width, 4.4, 6.2), _from(look.sleeve, 2.6, 5.0)
    outer = waist + 1.4
    inner = outer - 0.2 - foot
    leg: list[Point] = [(outer, 9.5), (outer, hem), (inner, hem), (0.6, 12.0), (0.0, 11.4)]
    canvas.paint([(AXIS, 2.0), (waist, 2.0), *leg, (AXIS, 11.4)], cloth, mirrored=True)
    canvas.paint([(AXIS, 2.0), (waist, 2.0), (waist + 0.3, 3.7), (AXIS, 3.7)], dark, mirrored=True)
    canvas.paint([(-0.7, 2.2), (0.7, 2.2), (0.7, 3.5), (-0.7, 3.5)], _lighter(cloth, 1.5))
    canvas.stroke((0.0, 3.7), (0.0, 10.0), 0.7, dark)
    canvas.stroke((waist - 2.4, 4.0), (waist + 0.6, 7.4), 0.6, dark, mirrored=True)
    canvas.stroke(((outer + 0.4) / 2, 12.0), (outer - foot / 2 - 0.1, hem), 0.5, cloth * 0.8, mirrored=True)


def pullover(canvas: Canvas, look: Look) -> None:
    """Long sleeves that hang, ribbed collar, cuffs and hem, two stripes across the chest."""
    cloth, dark = look.tone, look.tone * 0.6
    hem, side, wrist = _from(look.length, 23.0, 27.5), _from(look.width, 5.6, 7.2), _from(look.sleeve, 19.0, 25.0)
    hand = side + 0.27 * (wrist - 6.5)
    sleeve: list[Point] = [(side - 1.4, 5.0), (side + 1.8, 6.8), (hand + 1.9, wrist), (hand - 1.0, wrist + 0.8)]
    canvas.paint([*sleeve, (side - 1.2, 11.5)], cloth * 0.85, mirrored=True)
    canvas.stroke((hand - 0.1, wrist - 1.6), (hand + 0.45, wrist + 0.4), 3.0, dark, mirrored=True)
    neck: list[Point] = [(AXIS, 6.2), (1.8, 5.9), (3.2, 4.2), (side - 0.6, 5.0)]
    canvas.paint([*neck, (side, 11.0), (side, hem), (AXIS, hem)], cloth, mirrored=True)
    canvas.stroke((side - 0.4, 5.6), (side - 0.1, 11.5), 0.5, dark, mirrored=True)
    canvas.stroke((AXIS, 12.4), (side, 12.4), 1.7, _lighter(cloth, 1.6), mirrored=True)
    canvas.stroke((AXIS, 15.4), (side, 15.4), 1.7, _lighter(cloth, 1.6), mirrored=True)
    canvas.paint([(AXIS, hem - 2.2), (side, hem - 2.2), (side - 0.3, hem), (AXIS, hem)], dark, mirrored=True)
    canvas.paint([(AXIS, 3.4), (2.8, 3.0), (3.5, 4.4), (2.2, 6.6), (AXIS, 7.2)], dark, mirrored=True)
    canvas.stroke((AXIS, 4.6), (1.9, 4.3), 1.0, dark * 0.5, mirrored=True)


def dress(canvas: Canvas, look: Look) -> None:
    """A bodice on two straps, which caps may cover, a narrow waist with a belt, a wide skirt with folds."""
    cloth, dark = look.tone, look.tone * 0.65
    hem, flare, cap = _from(look.length, 23.5, 30.7), _from(look.width, 7.0, 11.0), _from(look.sleeve, 0.0, 3.4)
    edge = (4.6 + cap, 4.4 + 0.7 * cap)
    under = (4.3 + 0.7 * cap, 6.2 + cap)
    canvas.paint([(3.4, 3.4), edge, under, (4.0, 8.2), (3.2, 7.0)], cloth * 0.9, mirrored=True)
    neck: list[Point] = [(AXIS, 8.0), (1.2, 7.6), (2.6, 5.6), (2.9, 2.2), (4.2, 2.2)]
    waist: list[Point] = [(4.5, 5.4), (4.6, 8.0), (3.0, 12.6), (3.6, 14.6)]
    skirt: list[Point] = [(0.7 * flare + 0.6, 20.0), (flare, hem), (0.5 * flare, hem + 0.5), (AXIS, hem + 0.6)]
    canvas.paint([*neck, *waist, *skirt], cloth, mirrored=True)
    canvas.paint([(AXIS, 12.4), (3.1, 12.2), (3.3, 14.0), (AXIS, 14.2)], dark * 0.6, mirrored=True)
    canvas.stroke((0.0, 15.0), (0.0, hem), 0.6, dark)
    canvas.stroke((1.2, 15.0), (0.36 * flare, hem), 0.6, dark, mirrored=True)
    canvas.stroke((2.3, 15.0), (0.70 * flare, hem), 0.6, dark, mirrored=True)
    canvas.stroke((AXIS, hem - 1.0), (flare - 0.4, hem - 1.2), 0.5, dark, mirrored=True)


def coat(canvas: Canvas, look: Look) -> None:
    """Long, with long sleeves, open in front over a dark lining, with lapels, pockets and buttons."""
    cloth, dark, light = look.tone, look.tone * 0.5, _lighter(look.tone, 1.7)
    hem, side, wrist = _from(look.length, 27.0, 31.4), _from(look.width, 6.0, 7.8), _from(look.sleeve, 18.0, 23.5)
    hand = side + 0.2 * (wrist - 6.0)
    sleeve: list[Point] = [(side - 1.6, 4.4), (side + 1.6, 5.8), (hand + 2.0, wrist), (hand - 1.6, wrist + 0.6)]
    canvas.paint([*sleeve, (side - 1.0, 11.0)], cloth * 0.85, mirrored=True)
    canvas.stroke((hand - 1.5, wrist - 1.6), (hand + 1.8, wrist - 2.0), 0.7, dark, mirrored=True)
    back: list[Point] = [(3.0, 3.0), (side - 0.8, 4.4), (side - 0.4, 11.0), (side - 0.5, 16.0), (side + 1.0, hem)]
    canvas.paint([(AXIS, 3.0), *back, (AXIS, hem)], cloth, mirrored=True)
    lining: list[Point] = [(2.0, 3.0), (1.2, 13.0), (1.3, 16.0), (2.6, hem)]
    canvas.paint([(AXIS, 2.6), *lining, (AXIS, hem)], _SHADOW, mirrored=True)
    canvas.paint([(2.0, 1.8), (3.6, 2.8), (5.2, 6.6), (3.9, 7.2), (4.3, 8.6), (1.2, 14.0)], light, mirrored=True)
    canvas.stroke((side - 0.6, 5.4), (side - 0.5, 11.4), 0.5, dark, mirrored=True)
    canvas.stroke((3.4, 19.4), (side - 0.9, 18.6), 0.9, dark, mirrored=True)
    canvas.paint(_oval((2.4, 16.0), 0.75, 0.75), light, mirrored=True)
    canvas.paint(_oval((2.4, 20.0), 0.75, 0.75), light, mirrored=True)


def sandal(canvas: Canvas, look: Look) -> None:
    """A sole on a heel, two straps over the toes and a loop for the ankle, and the foot's room left empty."""
    cloth, dark = look.tone, look.tone * 0.6
    half, strap, lift = _from(look.length, 10.5, 14.0), _from(look.width, 1.5, 2.9), _from(look.sleeve, 0.8, 7.0)
    floor, bed = 27.0, 25.4
    toe, ball, arch, back = 1.4 - half, -0.3 * half, 0.28 * half, half - 0.6
    seat, slope = bed - lift, bed - 0.6 * lift
    canvas.paint([(back - 4.2, seat), (back, seat), (back - 0.7, floor), (back - 2.6, floor)], dark)
    above: list[Point] = [(-half, bed), (ball, bed), (arch, slope), (back - 3.6, seat), (back + 0.4, seat - 0.4)]
    below: list[Point] = [(back + 0.2, seat + 1.6), (back - 3.6, seat + 2.0), (arch, slope + 1.8), (ball, floor)]
    canvas.paint([*above, *below, (0.6 - half, floor), (-0.6 - half, floor - 0.7)], dark)
    # Seen from the side, a strap is a patch that leans back.
    canvas.paint([(toe, bed), (toe + 2.6, bed - 4.4), (toe + 3.6 + strap, bed - 5.0), (toe + 1.0 + strap, bed)], cloth)
    over: list[Point] = [(ball - 0.6, bed - 6.0), (ball + 0.8 + strap, bed - 6.8), (ball + 0.2 + strap, bed - 0.2)]
    canvas.paint([(ball - 1.6, bed), *over], cloth)
    ankle = seat - 8.6
    canvas.paint([(back - 3.4, seat), (back, seat), (back + 0.3, ankle + 0.6), (back - 1.3, ankle + 1.2)], cloth)
    outside = _oval((back - 4.6, ankle), 5.0, 2.6)
    inside = _oval((back - 4.6, ankle), 5.0 - 0.8 * strap, 2.6 - 0.8 * strap)
    canvas.paint([*outside, outside[0], inside[0], *inside[::-1]], cloth)


def shirt(canvas: Canvas, look: Look) -> None:
    """Long sleeves spread out, with cuffs, a pointed collar, a row of buttons, a rounded tail."""
    cloth, dark = look.tone, look.tone * 0.62
    hem, side, reach = _from(look.length, 24.5, 29.5), _from(look.width, 5.2, 6.8), _from(look.sleeve, 11.0, 15.0)
    tip = (side + 0.55 * reach, 5.4 + 0.9 * reach)
    inside = (tip[0] - 3.0, tip[1] + 2.0)
    canvas.paint([(side - 1.0, 4.4), (side + 0.8, 5.4), tip, inside, (side - 0.6, 11.8)], cloth * 0.9, mirrored=True)
    canvas.stroke((tip[0] - 1.2, tip[1] - 1.8), (inside[0] - 1.0, inside[1] - 1.6), 0.9, dark, mirrored=True)
    tail: list[Point] = [(side, hem - 2.8), (side * 0.7, hem - 0.8), (side * 0.3, hem), (AXIS, hem)]
    canvas.paint([(AXIS, 4.0), (3.0, 3.6), (side - 0.2, 4.4), (side, 11.0), *tail], cloth, mirrored=True)
    canvas.stroke((side - 0.3, 5.2), (side - 0.2, 11.4), 0.6, dark, mirrored=True)
    canvas.stroke((1.1, 7.0), (1.1, hem - 0.4), 0.4, dark, mirrored=True)
    for part in (0.06, 0.29, 0.52, 0.75):
        canvas.paint(_oval((0.0, 9.0 + part * (hem - 9.0)), 0.65, 0.65), _SHADOW)
    canvas.paint([(0.0, 6.4), (2.2, 2.6), (AXIS, 2.6), (AXIS, 6.4)], dark * 0.6, mirrored=True)
    collar: list[Point] = [(0.1, 5.6), (2.2, 2.2), (3.4, 2.8), (4.2, 4.4), (2.9, 8.4)]
    canvas.paint(collar, _lighter(cloth, 1.2), mirrored=True)
    canvas.stroke((0.2, 6.3), (3.1, 8.9), 0.7, dark, mirrored=True)
    canvas.stroke((3.1, 8.9), (4.5, 4.6), 0.6, dark, mirrored=True)


def sneaker(canvas: Canvas, look: Look) -> None:
    """Low, on a thick white sole, with a toe cap, laces and two stripes on its side."""
    cloth, dark = look.tone, look.tone * 0.55
    half, rise, sole = _from(look.length, 11.0, 14.6), _from(look.width, 7.6, 11.0), _from(look.sleeve, 2.0, 4.8)
    floor = 26.0
    bed = floor - sole
    top = bed - rise
    front: list[Point] = [(-half, bed), (0.2 - half, bed - 2.4), (1.6 - half, bed - 4.2)]
    throat, tongue = (-0.45 * half, bed - 5.4), (0.10 * half, top + 0.8)
    collar: list[Point] = [(0.16 * half, top - 0.8), (0.32 * half, top - 0.2), (0.42 * half, top + 1.6)]
    heel: list[Point] = [(half - 1.8, top + 0.8), (half - 0.4, top + 0.2), (half, top + 2.0), (half - 0.4, bed - 3.0)]
    upper = [*front, (-0.65 * half, bed - 5.2), throat, tongue, *collar, (0.65 * half, top + 2.2), *heel, (half, bed)]
    canvas.paint(upper, cloth)
    canvas.stroke((0.2 * half, top), (half - 0.4, top + 1.8), 1.0, dark)
    canvas.paint([*front, (-0.68 * half, bed - 5.0), (-0.52 * half, bed)], dark)
    for part in (0.12, 0.48, 0.84):
        x, y = (low + part * (high - low) for low, high in zip(throat, tongue, strict=True))
        canvas.stroke((x - 0.9, y - 0.8), (x + 1.5, y + 2.4), 1.0, _WHITE)
    for x in (0.22 * half, 0.46 * half):
        canvas.stroke((x, bed), (x + 2.0, bed - 5.2), 1.2, _WHITE)
    ground: list[Point] = [(half + 0.4, floor), (0.8 - half, floor), (-0.6 - half, floor - 1.2)]
    canvas.paint([(-0.6 - half, bed), (half + 0.6, bed), *ground], _WHITE)
    canvas.stroke((-0.4 - half, bed + 0.3), (half + 0.4, bed + 0.3), 0.6, dark)


def bag(canvas: Canvas, look: Look) -> None:
    """A body that widens downward, a flap with a clasp, and a handle above."""
    cloth, dark = look.tone, look.tone * 0.6
    tall, base, rise = _from(look.length, 12.0, 16.5), _from(look.width, 10.5, 14.5), _from(look.sleeve, 3.6, 9.5)
    floor, reach, thick = 28.5, 5.6, 1.7
    top, rim = floor - tall, base - 2.6
    handle: list[Point] = [(reach * sin, top - rise * cos) for cos, sin in _QUARTER]
    hollow: list[Point] = [((reach - thick) * sin, top - (rise - thick) * cos) for cos, sin in _QUARTER]
    ends: list[Point] = [(reach, top + 1.0), (reach - thick, top + 1.0)]
    crown: list[Point] = [(AXIS, top - rise + thick), (AXIS, top - rise)]
    canvas.paint([*handle, *ends, *hollow[::-1], *crown], dark, mirrored=True)
    body: list[Point] = [(base, floor - 1.6), (base - 1.0, floor), (AXIS, floor)]
    canvas.paint([(AXIS, top), (rim - 0.8, top), (rim, top + 0.8), *body], cloth, mirrored=True)
    fold = floor - 0.48 * tall
    flap: list[Point] = [(rim + 0.1, top + 0.8), (rim + 0.6, fold - 3.0), (rim - 2.0, fold), (AXIS, fold)]
    canvas.paint([(AXIS, top), (rim - 0.8, top), *flap], cloth * 0.78, mirrored=True)
    canvas.stroke((AXIS, fold), (rim - 2.0, fold), 0.8, dark * 0.7, mirrored=True)
    canvas.stroke((rim - 2.2, fold), (rim + 0.6, fold - 3.0), 0.8, dark * 0.7, mirrored=True)
    canvas.stroke((-1.5, fold), (1.5, fold), 3.2, _WHITE)


def boot(canvas: Canvas, look: Look) -> None:
    """A shaft to above the ankle, with an elastic panel and a tab to pull it on by, a heel, a thin sole."""
    cloth, dark, light = look.tone, look.tone * 0.45, _lighter(look.tone, 1.5)
    half, shaft, lift = _from(look.length, 9.5, 13.0), _from(look.width, 8.0, 11.5), _from(look.sleeve, 1.4, 5.6)
    floor, top, ball = 28.6, 4.4, -0.2 * half
    back, bed = half - 0.6, floor - 1.2
    front, seat = back - shaft, bed - lift
    canvas.paint([(back - 6.6, seat), (back + 0.2, seat), (back - 0.2, floor), (back - 5.6, floor)], dark)
    sole: list[Point] = [(-0.4 - half, bed - 0.4), (ball, bed - 0.4), (back - 5.6, seat), (back, seat)]
    canvas.paint([*sole, (back - 5.0, seat + 1.5), (ball, floor), (0.4 - half, floor)], dark)
    toe: list[Point] = [(-half, bed), (-half, bed - 2.0), (1.2 - half, bed - 4.2), (-0.6 * half, bed - 5.8)]
    instep: list[Point] = [(front - 1.2, bed - 8.4), (front + 0.2, bed - 11.0), (front + 0.2, top + 0.6)]
    heel: list[Point] = [
        (back, top),
        (back - 0.4, top + 9.0),
        (back + 0.5, seat - 3.0),
        (back, seat),
        (back - 5.6, seat),
    ]
    canvas.paint([*toe, *instep, *heel, (ball, bed)], cloth)
    middle = (front + back) / 2 + 0.2
    panel: list[Point] = [(middle - 2.2, top + 0.5), (middle + 2.0, top + 0.4)]
    canvas.paint([*panel, (middle + 0.7, top + 10.0), (middle - 0.9, top + 10.0)], dark)
    canvas.stroke((front + 0.2, top + 0.9), (back, top + 0.4), 1.0, light)
    canvas.stroke((back - 1.2, top + 2.0), (back - 1.2, top - 1.6), 1.4, light)


def _from(factor: Float32[np.ndarray, " n"], least: float, most: float) -> Float32[np.ndarray, " n"]:
    return least + (most - least) * factor


def _lighter(cloth: Float32[np.ndarray, " n"], times: float) -> Float32[np.ndarray, " n"]:
    return np.minimum(cloth * times, np.float32(_WHITE))


def _oval(centre: Point, across: Value, down: Value) -> list[Point]:
    """Return the corners of an ellipse with the given half axes."""
    quarter = _QUARTER[:-1]
    turns = [*quarter, *((-s, c) for c, s in quarter), *((-c, -s) for c, s in quarter), *((s, -c) for c, s in quarter)]
    return [(centre[0] + across * c, centre[1] + down * s) for c, s in turns]
