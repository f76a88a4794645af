"""Whether a run's clusters serve: they may coagulate, be too many, or be lopsided (method.md §6). K
clusters.
"""

from statistics import fmean

from pauc_hub.training.monitoring.curves import CLUSTERS, INTRA_SHARE
from pauc_hub.training.monitoring.finding import RECENT, Finding
from pauc_hub.training.monitoring.history import History

TREND = 6  # E-steps, the fewest of which a trend can be told
# share of all pairs of E-steps, of which the later one is lower (0.5 is no trend, 1 is without
# exception)
STEADY = 0.7
FALL = 0.1  # of the value at the start, so that a drift within noise does not count
# effective rank that healthy runs stay well above (of D = 128; an eighth of D where that is less)
FLAT = 10.0
# nats by which InfoNCE rises meanwhile, as there is less and less to tell members apart by
DEARER = 0.05


def coagulated(run: History) -> Finding | None:
    """The members of a cluster are drawn to one point, and the features lose dimensions with it
    (method.md §6).
    """
    epochs, shares = run.series("intra_share")
    _, ranks = run.series("effective_rank")
    if len(shares) < TREND or not (_falls(shares) and _falls(ranks)):
        # both fall in a healthy run too, while clusters form; but not to the end, and not for
        # nothing
        return None
    config, losses = run.config, run.series("infonce")[1][-len(shares) :]
    if fmean(ranks[-RECENT:]) > min(FLAT, config.dim / 8) and not _gets_dearer(
        shares, ranks, losses
    ):
        return None
    if config.objective == "protonce":
        change = "start anew with objective=pauc (now protonce), or with fewer and larger clusters"
    elif config.weight_proto > 0:
        change = (
            f"start anew with weight_proto={config.weight_proto / 10:.1g} or 0 (now "
            f"{config.weight_proto:g})"
        )
    else:
        higher = 2 * config.weight_unif or 0.15
        change = f"start anew with weight_unif={higher:g} (now {config.weight_unif:g})"
    return Finding(
        "coagulated",
        (
            "the members of each cluster are drawn to one point, so that less and less tells them "
            "apart"
        ),
        f"from epoch {epochs[0]} to {epochs[-1]} intra_share fell from {shares[0]:.2f} to "
        f"{shares[-1]:.2f}, "
        f"effective_rank from {ranks[0]:.1f} to {ranks[-1]:.1f}",
        INTRA_SHARE,
        change,
    )


def _gets_dearer(shares: list[float], ranks: list[float], losses: list[float]) -> bool:
    """In the later half of the E-steps alone, after the features have formed."""
    half = len(shares) // 2
    if half < TREND or not (_falls(shares[half:]) and _falls(ranks[half:])):
        return False
    return fmean(losses[-RECENT:]) > fmean(losses[half : half + RECENT]) + DEARER


def _falls(values: list[float]) -> bool:
    pairs = [(a, b) for i, a in enumerate(values) for b in values[i + 1 :]]
    first, last = fmean(values[:RECENT]), fmean(values[-RECENT:])
    return last < (1 - FALL) * first and sum(b < a for a, b in pairs) > STEADY * len(pairs)


# share of clusters without an image: k-means was asked for more than the images have
TOO_MANY = 0.1
LONELY = 0.3  # share with a single one, which has no spread and pulls an image to itself
LOPSIDED = 0.6  # entropy of the sizes over log K; 0.9 and more is usual


def misclustered(run: History) -> Finding | None:
    """Too many clusters for these images, or a few that hold nearly all."""
    if len(run.series("empty")[1]) < RECENT or not run.config.clusters:
        return None
    finest = run.config.clusters[-1]
    empty, lonely = (fmean(run.recent(name, RECENT)) / finest for name in ("empty", "singletons"))
    evenness = fmean(run.recent("size_entropy", RECENT))
    fewer = ",".join(str(max(2, count // 2)) for count in run.config.clusters)
    if empty > TOO_MANY or lonely > LONELY:
        return Finding(
            "overclustered",
            "there are more clusters than the images fall into",
            (
                f"in the last {RECENT} E-steps {empty:.0%} of {finest} clusters were empty, "
                f"{lonely:.0%} held one image"
            ),
            CLUSTERS,
            f"start anew with clusters={fewer} (now {','.join(map(str, run.config.clusters))})",
        )
    if evenness < LOPSIDED:
        return Finding(
            "lopsided",
            "a few clusters hold nearly all images",
            f"size_entropy {evenness:.2f} over the last {RECENT} E-steps (healthy: above 0.9)",
            CLUSTERS,
            (
                "look for many near-duplicates among the images; a higher kmeans_restarts helps "
                "where there are none"
            ),
        )
    return None
