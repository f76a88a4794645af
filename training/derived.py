"""What follows from other settings or from the number of images: blur, clusters, queue, images kept
out.
"""

BLUR_AT_224 = (0.1, 2.0)  # standard deviations, pixels; Chen et al. 2020, appendix A
LARGEST_QUEUE = 16384  # keys
IMAGES_PER_CLUSTER = 10  # the fewest on average, so that a concentration means something


# beyond that a threshold for outliers gains nothing
MOST_KEPT_OUT = 2000
# half of them set a threshold that one image in twenty exceeds
FEWEST_KEPT_OUT = 40


def images_kept_out(images: int, share: float) -> int:
    """How many of all images calibrate the prototypes; 0 where the share gives fewer than
    FEWEST_KEPT_OUT.
    """
    # what is no share is refused with all other settings
    count = min(MOST_KEPT_OUT, int(images * share)) if 0 <= share <= 1 else 0
    return count if count >= FEWEST_KEPT_OUT else 0


def default_clusters(images: int) -> tuple[int, ...]:
    """PCL's proportions (method.md §3), fewer where a cluster would have under 10 members on
    average.
    """
    most = max(2, images // IMAGES_PER_CLUSTER)
    return tuple(sorted({min(most, max(2, round(images / members))) for members in (50, 25, 12.5)}))


def default_queue(images: int, keys_per_step: int) -> int:
    """Whole steps, 16384 keys at most, and half of the images, so that few are of the same
    image.
    """
    step = max(1, keys_per_step)
    return max(1, min(LARGEST_QUEUE, images // 2) // step) * step
