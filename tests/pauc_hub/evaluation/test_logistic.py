"""Logistic regression: the objective by hand, scikit-learn on the same values, and rows that do not
fit the memory.
"""

from math import exp, log

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pauc_hub.evaluation import design as designs
from pauc_hub.evaluation.design import Design, Features, Standardisation, measure_standardisation
from pauc_hub.evaluation.folds import Targets
from pauc_hub.evaluation.lbfgs import minimise
from pauc_hub.evaluation.logistic import Fitted, Problem, path

L2 = (1.0, 1e-2, 1e-4)
CPU = torch.device("cpu")


def noisy_classes(rows: int, width: int, classes: int) -> tuple[Features, Targets]:
    """Overlapping classes in features of very different scales, a tenth of the labels wrong."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows)
    centres = rng.normal(size=(classes, width))
    features = (centres[labels] + rng.normal(size=(rows, width))) * np.logspace(0, -3, width) + 5
    wrong = rng.random(rows) < 0.1
    return features.astype(np.float32), np.where(wrong, rng.integers(0, classes, rows), labels)


def problem_of(
    features: Features,
    targets: Targets,
    classes: int,
    *,
    in_memory: bool = True,
    quick: torch.dtype = torch.float32,
) -> Problem:
    rows = np.arange(len(features))
    standardisation = measure_standardisation(features, rows)
    design = Design(features, rows, standardisation, in_memory=in_memory, device=CPU)
    return Problem(design, torch.from_numpy(targets), classes, standardisation, quick)


def accuracy(fitted: Fitted, features: Features, labels: Targets) -> float:
    predicted = fitted.model.logits(features, np.arange(len(features))).argmax(dim=1).numpy()
    return float((predicted == labels).mean())


def test_the_objective_and_its_gradient_by_hand() -> None:
    features = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], np.float32)
    plain = Standardisation(torch.zeros(2), torch.ones(2))
    design = Design(features, np.arange(3), plain, in_memory=True, device=CPU)
    problem = Problem(design, torch.tensor([0, 1, 2]), 3, plain)
    parameters = torch.zeros(16 * 3)
    parameters[0] = 1.0  # the weight of feature 0 for class 0
    value, gradient = problem._objective(parameters, 0.5, torch.float32)
    ahead = log(exp(1) + 2) - 1  # row 0: logits 1, 0, 0, class 0
    level = log(3)  # row 1: logits 0, 0, 0
    behind = log(exp(1) + 2)  # row 2: logits 1, 0, 0, class 2
    assert value == pytest.approx((ahead + level + behind) / 3 + 0.25, abs=1e-6)
    first = exp(1) / (exp(1) + 2)
    assert gradient[0].item() == pytest.approx((first - 1 + first) / 3 + 0.5, abs=1e-6)
    # intercept of class 0
    assert gradient[16 * 2].item() == pytest.approx((first - 1 + 1 / 3 + first) / 3, abs=1e-6)
    assert gradient.view(-1)[3 * 2 : 16 * 2].abs().max() == 0  # the columns that are no class


def test_the_path_reaches_what_scikit_learn_reaches() -> None:
    features, labels = noisy_classes(600, 24, 5)
    problem = problem_of(features, labels, 5)
    standardised = problem.standardisation.apply(torch.from_numpy(features)).double().numpy()
    for fitted in path(problem, L2, 1e-7):
        peer = LogisticRegression(C=1 / (600 * fitted.l2), tol=1e-8, max_iter=5000).fit(
            standardised, labels
        )
        losses = -peer.predict_log_proba(standardised)[np.arange(600), labels]
        best = losses.mean() + fitted.l2 / 2 * np.square(peer.coef_).sum()
        assert fitted.objective == pytest.approx(best, abs=1e-6)
        assert accuracy(fitted, features, labels) == pytest.approx(
            peer.score(standardised, labels), abs=0.004
        )


def test_few_passes_are_needed_on_features_of_any_scale() -> None:
    features, labels = noisy_classes(600, 24, 5)
    assert (
        sum(fitted.evaluations for fitted in path(problem_of(features, labels, 5), L2, 1e-6)) < 60
    )


def test_several_labels_are_as_many_separate_classifiers() -> None:
    features, labels = noisy_classes(400, 8, 4)
    several = np.stack([labels % 2, labels // 2], axis=1)
    fitted = problem_of(features, several, 2).fit(1e-2, 1e-8)
    standardised = (
        problem_of(features, labels, 4)
        .standardisation.apply(torch.from_numpy(features))
        .double()
        .numpy()
    )
    for c in range(2):
        peer = LogisticRegression(C=1 / (400 * 1e-2), tol=1e-9, max_iter=5000).fit(
            standardised, several[:, c]
        )
        np.testing.assert_allclose(fitted.model.weights[c], peer.coef_[0], atol=2e-3)


def test_rows_that_are_read_anew_for_each_pass_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = noisy_classes(500, 8, 3)
    kept = problem_of(features, labels, 3).fit(1e-2, 1e-7)
    monkeypatch.setattr(designs, "CHUNK_BYTES", 4 * 8 * 70)
    anew = problem_of(features, labels, 3, in_memory=False).fit(1e-2, 1e-7)
    assert anew.objective == pytest.approx(kept.objective, abs=1e-6)
    torch.testing.assert_close(anew.model.weights, kept.model.weights, atol=1e-3, rtol=0)


def test_bfloat16_products_end_at_the_same_minimum() -> None:
    features, labels = noisy_classes(500, 8, 3)
    exact = problem_of(features, labels, 3).fit(1e-3, 1e-7)
    quick = problem_of(features, labels, 3, quick=torch.bfloat16).fit(1e-3, 1e-7)
    assert quick.objective == pytest.approx(exact.objective, abs=1e-6)


def test_the_model_takes_features_as_they_come() -> None:
    features, labels = noisy_classes(500, 8, 3)
    problem = problem_of(features, labels, 3)
    model = problem.fit(1e-3, 1e-7).model
    rows = np.array([3, 400])
    by_hand = (
        problem.standardisation.apply(torch.from_numpy(features[rows])) @ model.weights.T
        + model.intercept
    )
    torch.testing.assert_close(model.logits(features, rows), by_hand)
    assert model.probabilities(by_hand).sum(dim=1).tolist() == pytest.approx([1, 1])


def test_a_constant_feature_changes_nothing() -> None:
    features, labels = noisy_classes(300, 4, 3)
    wider = np.concatenate([features, np.full((300, 1), 7.1, np.float32)], axis=1)
    alone = problem_of(features, labels, 3).fit(1e-2, 1e-7)
    beside = problem_of(wider, labels, 3).fit(1e-2, 1e-7)
    assert beside.objective == pytest.approx(alone.objective, abs=1e-6)
    assert beside.model.weights[:, 4].abs().max() < 1e-3


def test_standardisation_is_that_of_the_rows_alone() -> None:
    features = np.array([[0.0, 1.0], [2.0, 1.0], [900.0, 900.0]], np.float32)
    found = measure_standardisation(features, np.array([0, 1]))
    assert found.mean.tolist() == [1, 1]
    assert found.scale.tolist() == [1, 1]  # the second feature is constant


def test_minimise_finds_the_minimum_of_a_narrow_valley() -> None:
    scale = torch.logspace(0, 4, 30)

    def valley(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float((scale * (x - 1).square()).sum() / 2), scale * (x - 1)

    found = minimise(valley, torch.zeros(30), lambda vector: vector / scale, tolerance=1e-9)
    assert found.evaluations <= 3  # the preconditioner is the inverse Hessian itself
    torch.testing.assert_close(found.parameters, torch.ones(30), atol=1e-4, rtol=0)
    plain = minimise(
        valley, torch.zeros(30), lambda vector: vector, tolerance=1e-6, most_iterations=1000
    )
    assert plain.value < 1e-3  # from 18,000
