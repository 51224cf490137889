"""Dropout: a share of the numbers that a layer gives is left out in training, and the rest made larger."""

from collections.abc import Mapping, Sequence

from ae_core.spec.component import NoiseSite, check


def check_dropout(share: float) -> None:
    """Refuse a share that leaves nothing.

    Raises:
        SpecError: names the field.
    """
    check(0 <= share < 1, "dropout", share, "a number in [0, 1)")


def dropout_site(part: str, block: int) -> str:
    """Return the name of the noise of a block of ``part``, encoder or decoder; the module there has the same name."""
    return f"{part}.blocks.{block}.dropout"


def dropout_sites(share: float, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> dict[str, NoiseSite]:
    """Return the noise of all blocks, with the shapes of one image's numbers after each block, by part."""
    if not share:
        return {}
    return {
        dropout_site(part, i): NoiseSite(tuple(shape), "uniform")
        for part, blocks in shapes.items()
        for i, shape in enumerate(blocks)
    }


def kept(share: float) -> tuple[float, float]:
    """Return the threshold below which a uniform number leaves one out, and the factor of those that stay.

    No uniform number is equal to the threshold in any precision.
    """
    # uniform numbers are odd multiples of 2⁻²⁴
    return round(share * 2**23) / 2**23, 1 / (1 - share)
