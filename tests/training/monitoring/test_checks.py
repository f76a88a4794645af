"""Every verdict from made-up numbers: those that call for it, and those that come near and must
not.
"""

import dataclasses
from collections.abc import Callable
from math import log

import numpy as np
import pytest

from pauc_hub.training.monitoring.checks import findings, unjudged
from pauc_hub.training.monitoring.doctor import judge
from pauc_hub.training.monitoring.finding import Finding
from pauc_hub.training.monitoring.history import History
from pauc_hub.training.monitoring.learning import learning_is_judged

Made = Callable[..., History]
CHANCE = log(4096)  # of the fixture's queue


def line(first: float, last: float, count: int = 20) -> list[float]:
    return [float(value) for value in np.linspace(first, last, count)]


HEALTHY = {
    "infonce": [5.0, 7.9, *line(8.2, 5.8, 18)],  # the queue fills, then learning begins
    "alignment": line(0.9, 0.3),
    "intra_share": line(0.5, 0.46, 16),
    "effective_rank": line(30, 36, 16),
    "uniformity": line(-1.0, -3.0, 16),
    "size_entropy": [0.96] * 16,
    "empty": [0.0] * 16,
    "singletons": [2.0] * 16,
    "data_wait": [0.9, *[0.02] * 19],  # the first epoch finds nothing in any cache
    "mstep_seconds": [60.0] * 20,
    "estep_share": [0.0] * 4 + [0.2] * 16,
    "estep_seconds": [15.0] * 16,
    "images_per_second": [800.0] * 20,
}


def names(run: History) -> list[str]:
    return [finding.name for finding in findings(run)]


def only(run: History) -> Finding:
    [finding] = findings(run)
    return finding


def test_a_healthy_run_is_called_so_after_every_epoch(made: Made) -> None:
    whole = made(**HEALTHY)
    told = [names(dataclasses.replace(whole, epochs=whole.epochs[:count])) for count in range(21)]
    assert told == [[]] * 21
    assert learning_is_judged(whole)
    assert unjudged(whole) == []


def test_a_healthy_run_of_infonce_has_no_clusters_to_judge(made: Made) -> None:
    series = {
        name: HEALTHY[name] for name in ("infonce", "alignment", "data_wait", "mstep_seconds")
    }
    run = made({"objective": "infonce"}, **series)
    assert names(run) == []
    assert unjudged(run) == ["its clusters: the objective infonce has none"]


def test_what_is_too_early_is_told_with_what_it_takes(made: Made) -> None:
    run = made(infonce=[CHANCE])
    assert not learning_is_judged(run)
    assert unjudged(run) == [
        "whether it learns: that takes 3 epochs, 100 steps and a tenth of the run (now 1 and 50)",
        "coagulation: that takes 6 E-steps (now 0; the first is in epoch 5)",
        "its time: that takes 4 epochs of 10 s or more",
    ]


# --- diverged


def test_a_loss_that_is_no_number_has_diverged(made: Made) -> None:
    run = made(infonce=[8.0, 7.0])
    broken = dataclasses.replace(
        run, steps=[{"epoch": 2, "step": 20, "loss": None}], failure="the loss is no longer …"
    )
    assert only(broken).name == "diverged"
    assert only(broken).evidence == "not finite any more in step 20 of epoch 3"
    assert only(broken).change == "start anew with lr=0.02 (now 0.06); a longer lr_warmup helps too"
    assert (
        only(dataclasses.replace(run, failure="the features are no longer finite: …")).name
        == "diverged"
    )


def test_a_loss_that_climbs_has_diverged_and_one_that_wavers_has_not(made: Made) -> None:
    assert (
        only(made(infonce=[5.0, 8.0, *line(8, 6, 9), *line(6, 7.2, 9)])).evidence
        == "infonce rose from 6.05 around epoch 12 to 7.05 in the last 3 epochs"
    )
    # a fifth of what was gained
    assert names(made(infonce=[5.0, 8.0, *line(8, 6, 9), *line(6, 6.5, 9)])) == []
    # the first epochs' queue is random
    assert names(made(infonce=[1.0, 1.0, *line(8.2, 8.0, 18)])) == []
    assert names(made(infonce=line(8.3, 6, 20))) == []


# --- collapsed, stuck


def test_features_in_one_place_have_collapsed_whatever_their_rank(made: Made) -> None:
    flat = HEALTHY | {
        "uniformity": [-0.01] * 16,
        "infonce": [5.0, 8.0, *[CHANCE] * 18],
        "alignment": [0.001] * 20,
    }
    found = only(made({"momentum": 0.0}, **flat))
    assert (found.name, found.panel) == ("collapsed", "uniformity")
    assert found.evidence == (
        "effective_rank 36.0 and uniformity -0.010 in epoch 20; well above 10 and below -1 are "
        "healthy"
    )
    assert found.change == "start anew with momentum=0.99 (now 0: keys change too fast)"
    # so near lie an untrained network's features
    assert names(made(**HEALTHY | {"uniformity": [-0.1] * 16})) == []


def test_features_on_a_line_have_collapsed(made: Made) -> None:
    found = only(made(**HEALTHY | {"effective_rank": [*line(30, 1.2, 14), 1.1, 1.0]}))
    assert (found.name, found.panel) == ("collapsed", "effective rank")
    # once is no verdict
    assert names(made(**HEALTHY | {"effective_rank": [*line(30, 36, 15), 1.0]})) == []


def test_without_e_steps_loss_and_alignment_show_a_collapse(made: Made) -> None:
    run = made({"objective": "infonce"}, infonce=[CHANCE - 0.01] * 5, alignment=[0.004] * 5)
    assert only(run).evidence == (
        "infonce 8.31 in the last 3 of 5 epochs; ln(queue + 1) = ln 4096 = 8.32 is chance, "
        "and a query lies on its key (alignment 0.0040)"
    )
    assert only(run).name == "collapsed"


def test_a_loss_at_chance_is_stuck(made: Made) -> None:
    found = only(made({"lr": 1e-6}, infonce=[CHANCE - 0.01] * 5, alignment=[0.8] * 5))
    assert (found.name, found.panel) == ("stuck", "InfoNCE (nats)")
    assert "ln(queue + 1) = ln 4096 = 8.32 is chance" in found.evidence
    assert found.change == "start anew with lr=0.06 (now 1e-06: steps too short)"
    assert names(made(infonce=[CHANCE - 0.1] * 5, alignment=[0.8] * 5)) == []
    assert (
        names(made(infonce=[CHANCE, CHANCE, CHANCE - 0.1, CHANCE, CHANCE], alignment=[0.8] * 5))
        == []
    )
    assert names(made(infonce=[CHANCE] * 2, alignment=[0.8] * 2)) == []  # 100 steps, but two epochs
    # of a hundred
    assert names(made({"epochs": 100}, infonce=[CHANCE] * 9, alignment=[0.8] * 9)) == []
    # 1000 steps do
    assert names(made({"epochs": 900}, infonce=[CHANCE] * 20, alignment=[0.8] * 20)) == ["stuck"]


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"lr": 6.0}, "start anew with lr=0.06 (now 6: steps too long)"),
        (
            {"lr": 0.00001, "optimiser": "adamw"},
            "start anew with lr=0.001 (now 1e-05: steps too short)",
        ),
        ({"momentum": 1.0}, "start anew with momentum=0.99 (now 1: keys change too slowly)"),
        ({"temperature": 1.0}, "start anew with temperature=0.2 (now 1: too even)"),
        (
            {"lr": 0.003, "optimiser": "adamw"},
            (
                "start anew with lr=0.001 (now 0.003); if that does not help, "
                "milder views (a larger crop_min, less jitter), or more epochs"
            ),
        ),
    ],
)
def test_what_lies_far_from_the_usual_is_put_back_first(
    made: Made, settings: dict[str, object], change: str
) -> None:
    assert only(made(settings, infonce=[CHANCE] * 5, alignment=[0.8] * 5)).change == change


# --- a finished run


def steps(*losses: float) -> list[dict[str, float]]:
    return [{"epoch": 0, "step": 15 + i, "infonce": loss} for i, loss in enumerate(losses)]


@pytest.mark.parametrize("epochs", [1, 2, 3, 9])
def test_a_finished_run_at_chance_is_stuck_however_short_it_was(made: Made, epochs: int) -> None:
    whole = made(
        {"epochs": epochs, "queue": 4095},
        infonce=[5.0, *[CHANCE] * (epochs - 1)],
        alignment=[0.8] * epochs,
    )
    run = dataclasses.replace(whole, steps_an_epoch=17, steps=steps(CHANCE, CHANCE - 0.01, CHANCE))
    assert only(run).name == "stuck"
    assert only(run).change == (
        f"go on for longer: resume=True with epochs=59 (now {epochs}: {17 * epochs} steps are few, "
        "and runs that learn may need 1000)"
    )
    assert judge(run).verdict == "stuck"
    assert names(dataclasses.replace(run, steps=steps(CHANCE, CHANCE - 0.2, CHANCE))) == (
        [] if epochs < 5 else ["stuck"]
    )
    going_on = dataclasses.replace(run, config=dataclasses.replace(run.config, epochs=100))
    assert names(going_on) == []
    assert judge(going_on).verdict == "too early to tell"


def test_a_queue_that_was_never_filled_is_no_chance(made: Made) -> None:
    run = made({"epochs": 1, "queue": 4095, "batch_size": 64}, infonce=[CHANCE], alignment=[0.8])
    filled = dataclasses.replace(run, steps_an_epoch=64)
    assert names(filled) == ["stuck"]
    unfilled = dataclasses.replace(run, steps_an_epoch=63)  # 63 * 64 < 4095
    assert names(unfilled) == []
    assert judge(unfilled).verdict == "too short to tell"


def test_a_long_run_at_chance_is_not_told_to_go_on(made: Made) -> None:
    run = made({"epochs": 20}, infonce=[CHANCE] * 20, alignment=[0.8] * 20)
    assert only(run).change.startswith(
        "start anew with lr=0.02 (now 0.06); if that does not help, milder views"
    )
    far = dataclasses.replace(
        run, config=dataclasses.replace(run.config, lr=6.0, epochs=20), steps_an_epoch=1
    )
    # whatever the number of steps
    assert only(far).change == "start anew with lr=0.06 (now 6: steps too long)"


def test_a_finished_run_that_collapsed_in_its_only_e_step_is_said_to(made: Made) -> None:
    one = {
        "infonce": [CHANCE, CHANCE],
        "uniformity": [-0.001],
        "effective_rank": [1.0],
        "alignment": [0.0, 0.0],
    }
    assert names(made({"epochs": 2}, **one)) == ["collapsed"]
    assert names(made({"epochs": 9}, **one)) == []


# --- clusters


def test_intra_share_and_rank_that_fall_until_few_dimensions_are_left_show_coagulation(
    made: Made,
) -> None:
    sick = HEALTHY | {"intra_share": line(0.5, 0.1, 16), "effective_rank": line(36, 6, 16)}
    found = only(made({"objective": "protonce"}, **sick))
    assert (found.name, found.panel) == ("coagulated", "intra_share")
    assert (
        found.evidence
        == "from epoch 5 to 20 intra_share fell from 0.50 to 0.10, effective_rank from 36.0 to 6.0"
    )
    assert (
        found.change
        == "start anew with objective=pauc (now protonce), or with fewer and larger clusters"
    )
    assert (
        only(made({"weight_proto": 1.0}, **sick)).change
        == "start anew with weight_proto=0.1 or 0 (now 1)"
    )
    assert only(made(**sick)).change == "start anew with weight_unif=0.3 (now 0.15)"
    assert names(made(**sick | {"intra_share": line(0.5, 0.48, 16)})) == []
    assert names(made(**sick | {"effective_rank": line(6, 6, 16)})) == []
    assert (
        names(
            made(
                **HEALTHY | {"intra_share": line(0.5, 0.1, 16), "effective_rank": line(36, 14, 16)}
            )
        )
        == []
    )


def test_so_does_a_loss_that_rises_while_they_fall_to_the_end(made: Made) -> None:
    falling = {"intra_share": line(0.5, 0.3, 16), "effective_rank": line(60, 30, 16)}
    dearer = [5.0, 8.0, *line(8, 6, 9), *line(6, 6.3, 9)]
    assert names(made(**HEALTHY | falling | {"infonce": dearer})) == ["coagulated"]
    # clusters form while the loss falls: that is learning
    assert names(made(**HEALTHY | falling)) == []


def test_clusters_may_be_too_many(made: Made) -> None:
    empty = only(made(**HEALTHY | {"empty": [20.0] * 16}))
    assert (empty.name, empty.panel) == ("overclustered", "clusters")
    assert (
        empty.evidence == "in the last 3 E-steps 20% of 100 clusters were empty, 2% held one image"
    )
    assert empty.change == "start anew with clusters=25,50 (now 50,100)"
    assert names(made(**HEALTHY | {"singletons": [40.0] * 16})) == ["overclustered"]
    assert names(made(**HEALTHY | {"empty": [5.0] * 16, "singletons": [20.0] * 16})) == []


def test_clusters_may_be_lopsided(made: Made) -> None:
    assert (
        only(made(**HEALTHY | {"size_entropy": [0.4] * 16})).evidence
        == "size_entropy 0.40 over the last 3 E-steps (healthy: above 0.9)"
    )
    assert names(made(**HEALTHY | {"size_entropy": [0.8] * 16})) == []


# --- time


def test_learning_may_starve(made: Made) -> None:
    found = only(made(**HEALTHY | {"data_wait": [0.4] * 20}))
    assert (found.name, found.panel) == ("starved", "share of time")
    assert found.evidence == "data_wait 40% of learning over the last 3 epochs, at 800 images/s"
    assert "more threads that decode (workers" in found.change
    # its first batch
    assert names(made(**HEALTHY | {"data_wait": [0.4] * 20, "mstep_seconds": [2.0] * 20})) == []


def test_the_e_step_may_take_too_much(made: Made) -> None:
    found = only(made(**HEALTHY | {"estep_share": [0.5] * 16}))
    assert (found.name, found.panel) == ("burdened", "share of time")
    assert found.evidence == "estep_share 50% over the last 3 epochs, 15 s each"
    assert found.change.startswith("start anew with kmeans_iterations=10 (now 20)")
    assert names(made(**HEALTHY | {"estep_share": [0.5] * 16, "estep_seconds": [1.0] * 16})) == []


# --- several at once


def test_what_follows_from_something_worse_is_not_told_beside_it(made: Made) -> None:
    point = {
        "uniformity": [-0.01] * 16,
        "infonce": [5.0, 8.0, *[CHANCE] * 18],
        "size_entropy": [0.2] * 16,
    }
    assert names(made(**HEALTHY | point | {"data_wait": [0.5] * 20})) == ["collapsed", "starved"]


def test_an_error_that_nothing_else_explains_is_told_as_it_was(made: Made) -> None:
    assert (
        only(made(infonce=[8.0], failure="the disk is full")).evidence
        == "epoch 2: the disk is full"
    )
