"""Figures: what is drawn is what was given, and the labels say what it is."""

import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from ae_core.figures.charts import DPI, Curve, image_rows, latent_scatter, loss_curves, save_figure, throughput, to_png
from ae_core.figures.latent import GridMap, grid_maps

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 10


def _codes(width: int, n: int = 60) -> np.ndarray:
    return RNG.standard_normal((n, width)) * np.arange(1, width + 1)


def _curve(losses: Sequence[float], heldout: Sequence[float] = ()) -> Curve:
    return Curve(np.arange(len(losses)), np.asarray(losses, float), np.arange(len(heldout)), np.asarray(heldout, float))


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def _pixels(axes: Axes) -> np.ndarray:
    return np.asarray(axes.get_images()[0].get_array())


def _points(axes: Axes) -> np.ndarray:
    return np.asarray(axes.collections[0].get_offsets())


def _rows(channels: int = 1, n: int = 12) -> dict[str, np.ndarray]:
    images = RNG.random((n, 8, 6, channels))
    return {"original": images, "JAX": images / 2, "JAX − original": -images / 2, "none": images * 0}


def _map(columns: int = 3, rows: int = 2, side: int = 8) -> GridMap:
    images = RNG.random((rows, columns, side, side, 1))
    names = "latent 1", "latent 2" if rows > 1 else ""
    return GridMap(images, np.arange(columns) - 1.0, np.arange(rows) * 2.0, names)


CASES: dict[str, Callable[[], Figure]] = {
    "rows, gray": lambda: image_rows(_rows(1), {"JAX − original", "none"}),
    "rows, colour": lambda: image_rows(_rows(3), {"JAX − original"}),
    "rows, two channels": lambda: image_rows(_rows(2, n=1)),
    "rows, not finite": lambda: image_rows({"a": np.full((2, 4, 4, 1), np.nan)}, {"a"}),
    "losses": lambda: loss_curves({"JAX": _curve([3, 2, 1], [2]), "PyTorch": _curve([3, 2, 1], [2])}),
    "losses, wide range": lambda: loss_curves({"JAX": _curve([3000, 2, 1], [2])}),
    "losses, one step": lambda: loss_curves({"JAX": _curve([3])}),
    "losses, diverged": lambda: loss_curves({"JAX": _curve([3, np.inf, np.nan])}),
    "losses, none": lambda: loss_curves({"JAX": _curve([])}),
    "one latent": lambda: latent_scatter({"JAX": _codes(1), "PyTorch": _codes(1)}, LABELS / 10, "width", False),
    "one latent, classes": lambda: latent_scatter({"JAX": _codes(1)}, LABELS.astype(str), "digit", True),
    "one latent, alone": lambda: latent_scatter({"JAX": _codes(1)}, None, "", False),
    "two latents": lambda: latent_scatter({"JAX": _codes(2)}, LABELS, "digit", True),
    "two latents, many classes": lambda: latent_scatter({"JAX": _codes(2)}, np.arange(60), "class", True),
    "four panels": lambda: latent_scatter({name: _codes(2) for name in "abcd"}, LABELS, "digit", False),
    "wide latents, one sample": lambda: latent_scatter({"JAX": _codes(5, n=1)}, None, "", False),
    "wide latents, diverged": lambda: latent_scatter({"JAX": _codes(5) * np.nan}, LABELS, "digit", True),
    "map": lambda: grid_maps({"decoded": _map()}),
    "map, one latent": lambda: grid_maps({"decoded": _map(rows=1)}),
    "map, more pixels than dots": lambda: grid_maps({"decoded": _map(10, 10, 128)}),
    "maps": lambda: grid_maps({"JAX": _map(), "PyTorch": _map()}),
    "throughput": lambda: throughput({"JAX": 1234.5, "PyTorch": None}),
    "throughput, not measured": lambda: throughput({"JAX": None, "PyTorch": None}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_figure_becomes_a_png(name: str) -> None:
    with Image.open(io.BytesIO(to_png(CASES[name]()))) as file:
        assert file.format == "PNG"
        assert "Software" not in file.info
        assert min(file.size) > 100


def test_png_is_deterministic(tmp_path: Path) -> None:
    codes, path = {"JAX": _codes(3)}, tmp_path / "a.png"
    save_figure(path, latent_scatter(codes, LABELS, "digit", True))
    assert path.read_bytes() == to_png(latent_scatter(codes, LABELS, "digit", True))


def test_image_rows_show_their_names_and_at_most_ten_images() -> None:
    figure = image_rows(_rows(1), {"JAX − original"})
    assert [axes.get_title("left") for axes in figure.axes] == list(_rows())
    for axes in figure.axes:
        assert _pixels(axes).shape[:2] == (8, 10 * 7 - 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_difference_has_a_symmetrical_scale(channels: int) -> None:
    difference = np.zeros((3, 4, 4, channels))
    difference[0, 0, 0, 0], difference[1, 0, 0, -1] = 2.5e-7, -5e-7
    figure = image_rows({"d": difference}, {"d"})
    assert {"+5e-07", "0", "−5e-07"} <= set(_texts(figure))
    pixels = _pixels(figure.axes[0])
    half_red, full_blue, zero = pixels[0, 0], pixels[0, 5], pixels[1, 1]
    assert half_red[0] > half_red[2]
    assert full_blue[2] > full_blue[0]
    assert abs(full_blue - zero).max() > abs(half_red - zero).max() > 0.1
    assert np.ptp(zero) < 0.01


def test_difference_of_nothing_is_said_to_be_zero() -> None:
    assert "exactly\nzero" in _texts(image_rows({"d": np.zeros((2, 4, 4, 1))}, {"d"}))


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([3, 2, 1], "linear"), ([300, 2, 1], "log"), ([300, 2, 0], "linear"), ([300, 2, -1], "linear")],
)
def test_loss_axis(losses: Sequence[float], scale: str) -> None:
    assert loss_curves({"JAX": _curve(losses)}).axes[0].get_yscale() == scale


def test_equal_curves_both_stay_visible() -> None:
    figure = loss_curves({"JAX": _curve([3, 2, 1], [3, 2]), "PyTorch": _curve([3, 2, 1], [3, 2])})
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines) == ["JAX, training", "JAX, held-out", "PyTorch, training", "PyTorch, held-out"]
    assert lines["JAX, training"].get_linewidth() > 3 * lines["PyTorch, training"].get_linewidth()
    assert lines["JAX, held-out"].get_markersize() > 2 * lines["PyTorch, held-out"].get_markersize()


def test_wide_latents_say_pca_and_share_one_projection() -> None:
    codes = RNG.standard_normal((60, 4)) * [10, 1e-3, 5, 1e-3] + 7
    figure = latent_scatter({"JAX": codes, "PyTorch": codes + np.array([0, 0, 20, 0])}, LABELS / 10, "width", False)
    share = codes.var(axis=0)[[0, 2]] / codes.var(axis=0).sum()
    x_label, y_label = figure.get_supxlabel(), figure.get_supylabel()
    assert x_label.startswith("PCA axis 1 of JAX")
    assert y_label.startswith("PCA axis 2 of JAX")
    assert abs(float(x_label.split()[-3].strip("%")) / 100 - share[0]) < 0.02
    first, second = (_points(axes) for axes in figure.axes[:2])
    np.testing.assert_allclose(np.abs(second - first).mean(axis=0), [0, 20], atol=2)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_two_latents_are_drawn_as_they_are() -> None:
    codes = _codes(2)
    figure = latent_scatter({"JAX": codes}, None, "", False)
    np.testing.assert_array_equal(_points(figure.axes[0]), codes)
    assert not any("PCA" in text for text in _texts(figure))


def test_one_latent_is_drawn_against_the_colour() -> None:
    codes, width = _codes(1), RNG.random(60)
    figure = latent_scatter({"JAX": codes}, width, "width", False)
    np.testing.assert_array_equal(_points(figure.axes[0]), np.column_stack([codes[:, 0], width]))
    assert figure.get_supylabel() == "width"


def test_classes_have_a_legend_and_look_different() -> None:
    figure = latent_scatter({"JAX": _codes(2)}, LABELS, "digit", True)
    legend = figure.legends[0]
    assert legend.get_title().get_text() == "digit"
    assert [text.get_text() for text in legend.get_texts()] == [str(label) for label in range(10)]
    looks = {
        (np.asarray(points.get_facecolor()).tobytes(), np.asarray(points.get_paths()[0].vertices).tobytes())
        for points in figure.axes[0].collections
    }
    assert len(looks) == 10


def test_maps_show_each_image_where_its_code_lies() -> None:
    maps = {"JAX": _map(), "PyTorch": _map()}
    figure = grid_maps(maps)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(maps)
    for axes, shown in zip(figure.axes, maps.values(), strict=True):
        sheet = _pixels(axes)[..., 0]
        # a gap of one pixel between images of eight; the picture's first row is the first of the map
        np.testing.assert_allclose(sheet[:8, 18:26], shown.images[0, 2, ..., 0], atol=1e-7)
        np.testing.assert_allclose(sheet[9:, :8], shown.images[1, 0, ..., 0], atol=1e-7)
        assert [text.get_text() for text in axes.get_xticklabels()] == ["−1", "0", "1"]
        assert [text.get_text() for text in axes.get_yticklabels()] == ["0", "2"]
        box = axes.get_window_extent()
        dots = box.width * DPI / figure.dpi / sheet.shape[1], box.height * DPI / figure.dpi / sheet.shape[0]
        np.testing.assert_allclose(dots, np.round(dots[0]), rtol=1e-12)  # each pixel as many dots as the next


def test_classes_are_called_by_their_names() -> None:
    figure = latent_scatter({"JAX": _codes(2)}, LABELS % 3, "label", True, ("shirt", "bag"))
    assert {"shirt", "bag", "2"} <= set(_texts(figure))  # what has no name is its own
    assert not {"0", "1"} & {text.get_text() for text in figure.legends[0].get_texts()}


def test_throughput_says_its_numbers() -> None:
    assert {"12,346", "3.21", "not measured"} <= set(_texts(throughput({"a": 12345.6, "b": 3.21, "c": None})))


def test_no_global_state() -> None:
    code = (
        "import sys, numpy as np, ae_core.figures.charts as f; f.to_png(f.throughput({'a': 1.0})); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
