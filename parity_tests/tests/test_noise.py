"""NumPy, JAX and PyTorch draw the same noise, however a batch is cut; and it is distributed as it should be."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import ae_jax.noise
import ae_torch.noise
from ae_core import noise
from ae_core.noise import draw, key, permutation, round_keys
from ae_core.spec.component import NoiseSite

KEY = key(7, "corruption")
SHAPES = [(28, 28, 1), (7, 3), (2,), (1,), (4, 5)]
"""Of sizes that blocks of four fill, and do not; of one block, and of many."""

LAST = 2**32 - 1
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((LAST,) * 4, (LAST,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
"""Counter, key and words of Philox4x32-10, from the file kat_vectors of the authors' library Random123."""


def numpy_words(counter, key, rounds):
    return np.stack(noise.philox(tuple(np.asarray(c, np.uint64) for c in counter), key, rounds))


def jax_words(counter, key, rounds):
    return np.stack(ae_jax.noise.philox(tuple(jnp.asarray(c, jnp.uint32) for c in counter), key, rounds))


def torch_words(counter, key, rounds):
    counter = tuple(torch.from_numpy(np.asarray(c, np.int64)) for c in counter)
    return (torch.stack(ae_torch.noise.philox(counter, key, rounds)) & LAST).numpy()


WORDS = {"numpy": numpy_words, "jax": jax_words, "torch": torch_words}


def plain_words(counter, key, rounds):
    """Return the words of one counter in integers of Python, as section 3.3 of the paper has it."""
    c, k = list(counter), list(key)
    for _ in range(rounds):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 % 2**32, (p0 >> 32) ^ c[3] ^ k[1], p0 % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


COMPILED = jax.jit(ae_jax.noise.draw, static_argnums=(0, 3, 5))


def jax_draw(site, key, step, rows, first=0, dtype="float32"):
    with jax.enable_x64(dtype == "float64"):
        return np.asarray(COMPILED(site, jnp.asarray(key, jnp.uint32), step, rows, first, dtype))


def torch_draw(*arguments, dtype="float32"):
    return ae_torch.noise.draw(*arguments, dtype=getattr(torch, dtype)).numpy()


TWINS = {"jax": jax_draw, "torch": torch_draw}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize(("counter", "chosen", "words"), KNOWN)
def test_published_words(name, counter, chosen, words):
    assert WORDS[name]([[c] for c in counter], chosen, 10).ravel().tolist() == list(words)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("rounds", [1, 2, 7, 10])
def test_words_of_any_counter(name, rounds):
    counters = np.random.default_rng(0).integers(0, 2**32, (20, 4))
    keys = [(0, 0), (LAST, LAST), (2**31, 2**31 - 1), KEY]
    for chosen in keys:
        expected = [plain_words(counter.tolist(), chosen, rounds) for counter in counters]
        np.testing.assert_array_equal(WORDS[name](counters.T, chosen, rounds).T, expected)


def test_words_without_products_of_the_upper_word(monkeypatch):
    counter = np.random.default_rng(1).integers(0, 2**32, (4, 50))
    expected = jax_words(counter, KEY, 10)
    monkeypatch.delattr(jax.lax, "mulhi", raising=False)
    np.testing.assert_array_equal(jax_words(counter, KEY, 10), expected)


def test_key():
    # models of earlier runs can only be trained again while these words stay
    assert key(0, "corruption") == (3180855320, 1863756126)
    keys = [key(seed, site) for seed in (-1, 0, 1, 2) for site in ("corruption", "bottleneck", "")]
    assert len(set(keys)) == len(keys)
    assert round_keys((LAST, 1), 2)[1] == (0x9E3779B8, 0xBB67AE86)


def test_layout():
    # word j of block b is number j·n + b
    site = NoiseSite((3, 3), "uniform")
    numbers = draw(site, KEY, 5, 2, 8)
    assert site.size == 9
    assert site.blocks == 3
    for row, i in itertools.product(range(2), range(9)):
        word = plain_words((i % 3, 8 + row, 5, 0), KEY, 10)[i // 3]
        assert numbers[row].flat[i] == (2 * (word >> 9) + 1) / 2**24
    u, v = draw(NoiseSite((2, 1, 6), "uniform"), KEY, 5, 1).reshape(2, 6)
    z = draw(NoiseSite((2, 1, 6), "normal"), KEY, 5, 1).reshape(2, 6)
    np.testing.assert_array_equal(z[0], np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v))
    np.testing.assert_array_equal(z[1], np.sqrt(-2 * np.log(u)) * np.sin(2 * np.pi * v))


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_uniform_numbers_are_equal(name, dtype, shape):
    site = NoiseSite(shape, "uniform")
    for step, first in ((0, 0), (2**31 - 1, 3)):
        expected, given = draw(site, KEY, step, 6, first), TWINS[name](site, KEY, step, 6, first, dtype=dtype)
        assert given.dtype == dtype
        np.testing.assert_array_equal(given, expected)
        np.testing.assert_array_equal(expected.astype(np.float32), expected)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 5e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("shape", SHAPES)
def test_normal_numbers_are_equal(name, dtype, limit, shape):
    site = NoiseSite(shape, "normal")
    for step, first in ((0, 0), (2**31 - 1, 3)):
        expected, given = draw(site, KEY, step, 60, first), TWINS[name](site, KEY, step, 60, first, dtype=dtype)
        assert given.dtype == dtype
        np.testing.assert_allclose(given, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cosine_and_sine(dtype):
    eighths = np.arange(9) / 8
    turns = np.concatenate([[2.0**-24, 1 - 2.0**-24], *(eighths + d for d in (0, -(2.0**-23), 2.0**-23))])
    turns = np.concatenate([turns, np.random.default_rng(0).integers(0, 2**24, 10_000) / 2**24])
    with jax.enable_x64(dtype == "float64"):
        cosine, sine = ae_jax.noise._cosine_and_sine(jnp.asarray(turns, dtype))
    limit = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(cosine, np.cos(2 * np.pi * turns), rtol=0, atol=limit)
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * turns), rtol=0, atol=limit)


@pytest.mark.parametrize("draw_of", [draw, *TWINS.values()], ids=["numpy", *TWINS])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_a_batch_may_be_cut_anywhere(draw_of, distribution):
    site = NoiseSite((5, 2), distribution)
    whole = draw_of(site, KEY, 4, 9)
    for cut in (1, 4, 8):
        parts = np.concatenate([draw_of(site, KEY, 4, cut), draw_of(site, KEY, 4, 9 - cut, cut)])
        # the library's functions may round the last numbers of an array otherwise than those before
        np.testing.assert_allclose(parts, whole, rtol=0, atol=0 if distribution == "uniform" else 2e-6)


@pytest.mark.parametrize("name", ["numpy", *TWINS])
def test_several_steps_at_once(name):
    site, steps = NoiseSite((5, 2), "uniform"), np.array([3, 4, 9])
    together = {
        "numpy": lambda: draw(site, KEY, steps, 4, 2),
        "jax": lambda: ae_jax.noise.draw(site, KEY, jnp.asarray(steps), 4, 2),
        "torch": lambda: ae_torch.noise.draw(site, KEY, torch.from_numpy(steps), 4, 2),
    }[name]()
    np.testing.assert_array_equal(together, [draw(site, KEY, int(step), 4, 2) for step in steps])


def test_steps_rows_sites_and_seeds_are_independent():
    site = NoiseSite((100, 100), "normal")
    draws = [draw(site, key(*seed), step, 2) for seed in ((0, "a"), (0, "b"), (1, "a")) for step in (0, 1)]
    rows = [row.ravel() for both in draws for row in both]
    for one, two in itertools.combinations(rows, 2):
        # the correlation of independent numbers has the standard error 1/√10000
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.05
    for one in rows:  # numbers that share a block, and neighbours
        for shift in (1, 2500, 5000, 7500):
            assert abs(np.corrcoef(one, np.roll(one, shift))[0, 1]) < 0.05


def test_distribution():
    count = 1_000_000
    normal = draw(NoiseSite((10, 10), "normal"), KEY, 0, count // 100).ravel()
    # five standard errors of the moments of a normal sample: 1/√n, √(2/n), √(6/n) and √(24/n)
    assert abs(normal.mean()) < 5 / math.sqrt(count)
    assert abs(normal.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs(scipy.stats.skew(normal)) < 5 * math.sqrt(6 / count)
    assert abs(scipy.stats.kurtosis(normal)) < 5 * math.sqrt(24 / count)
    uniform = draw(NoiseSite((10, 10), "uniform"), KEY, 0, count // 100).ravel()
    assert uniform.min() > 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 5 / math.sqrt(12 * count)
    # Kolmogorov's distance of so many numbers exceeds 2/√n once in 1,500 times
    assert scipy.stats.kstest(normal, "norm").statistic < 2 / math.sqrt(count)
    assert scipy.stats.kstest(uniform, "uniform").statistic < 2 / math.sqrt(count)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inside_a_compiled_program(dtype):
    site = NoiseSite((6, 5), "uniform")

    @partial(jax.jit, static_argnums=3)
    def run(chosen, step, first, rows):
        body = lambda i, total: total + ae_jax.noise.draw(site, chosen, step + i, rows, first, dtype)  # noqa: E731
        return jax.lax.fori_loop(0, 3, body, jnp.zeros((rows, 6, 5), dtype))

    with jax.enable_x64(dtype == "float64"):
        total = run(jnp.asarray(KEY, jnp.uint32), 5, 2, 4)
    assert total.dtype == dtype
    # sums of three numbers of 24 bits
    expected = sum(draw(site, KEY, 5 + i, 4, 2) for i in range(3))
    np.testing.assert_allclose(total, expected, rtol=3 * np.finfo(dtype).eps)


def test_divided_over_devices():
    site, devices = NoiseSite((3, 2), "uniform"), jax.local_devices()
    mesh = Mesh(np.array(devices), ("batch",))
    rows = 4

    def share(step):
        return ae_jax.noise.draw(site, KEY, step, rows, jax.lax.axis_index("batch") * rows)

    divided = jax.jit(jax.shard_map(share, mesh=mesh, in_specs=P(), out_specs=P("batch"), check_vma=False))
    np.testing.assert_array_equal(divided(jnp.int32(6)), draw(site, KEY, 6, rows * len(devices)))


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_permutation(count):
    for step in (0, 3):
        order = permutation(KEY, step, count)
        np.testing.assert_array_equal(np.sort(order), np.arange(count))
        np.testing.assert_array_equal(ae_jax.noise.permutation(KEY, step, count), order)
        compiled = jax.jit(partial(ae_jax.noise.permutation, KEY, count=count))
        np.testing.assert_array_equal(compiled(jnp.int32(step)), order)
        np.testing.assert_array_equal(ae_torch.noise.permutation(KEY, step, count), order)
        numbers = [plain_words((i, 0, step, 1), KEY, 10)[:2] for i in range(count)]
        assert order.tolist() == sorted(range(count), key=numbers.__getitem__)
    if count == 1000:
        assert (permutation(KEY, 0, count) != permutation(KEY, 1, count)).any()
        assert (permutation(KEY, 0, count) != permutation(key(8, "corruption"), 0, count)).any()


def test_permutations_of_three_are_equally_likely():
    orders = [tuple(permutation(KEY, step, 3)) for step in range(1200)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
