"""What is worth knowing of a model and the images at hand: a sentence each, for a Note."""

# DINOv2 with registers: Apache-2.0, 22 million parameters, learnt without labels from 142 million
# images.
STRONGER = "vit_small_patch14_reg4_dinov2.lvd142m"
USUAL_SIDE = 224
LARGE_INPUT = 384
SMALL_INPUT, SMALL_TIMES = 128, 2


def about_input(model: str, side: int) -> str | None:
    """Of a model that sees large images: what smaller ones would save.

    Args:
        side: of the square that the network sees, in pixels.
    """
    if side < LARGE_INPUT:
        return None
    times = (side / USUAL_SIDE) ** 2
    return (
        f"{model} sees {side} x {side} pixels, {times:.1f} times the work of {USUAL_SIDE}: "
        f"image_size={USUAL_SIDE} is quicker."
    )


def about_images(model: str, side: int, median_side: int | None) -> str | None:
    """Of a model for small images, where those at hand are larger: one that suits them.

    Args:
        side: of the square that the network sees, in pixels.
        median_side: of the shorter sides of the images, in pixels; None where none was embedded.
    """
    if median_side is None or side > SMALL_INPUT or median_side <= SMALL_TIMES * side:
        return None
    return (
        f"{model} sees {side} x {side} pixels, and half of these images are larger than "
        f"{median_side - 1}. "
        f"For photographs model={STRONGER} with image_size={USUAL_SIDE} is stronger."
    )
