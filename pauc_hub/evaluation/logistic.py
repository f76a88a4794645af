"""Logistic regression on frozen features, full batch. N rows, D width, C classes, P >= C columns of
weights.

The objective is  mean_n loss(W x_n + b, y_n) + l2/2 ‖W‖²  in nats; the intercept b is not
penalised. In scikit-learn's terms C = 1 / (N l2). One label an image: softmax and cross-entropy.
Several: a sigmoid for each class, losses summed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.evaluation.design import Design, Features, Rows, Standardisation, chunks_of
from pauc_hub.evaluation.lbfgs import Minimum, minimise

COLUMN_STEP = 16
"""P is a multiple of this: the logits of 10 classes take 1.5 times as long as those of 16
(docs/LOG.md).
"""
SAMPLED = 4
"""Rows for each feature, of which the preconditioner is made."""
LEAST_SAMPLE = 1024
QUICK_TOLERANCE = 1e-4
"""Nats to which bfloat16 products are used: its gradients have an error of about 0.4 %."""
DAMPING = 1e-6
"""Share of its mean diagonal added to the preconditioner's Hessian, so that it can be factored."""


@dataclass(frozen=True)
class Linear:
    """A linear classifier on features as a model gives them."""

    weights: Tensor
    """(C, D) float32, of standardised features."""
    intercept: Tensor
    """(C,)"""
    standardisation: Standardisation
    several: bool = False
    """Whether an image may have several labels."""
    temperature: float = 1.0
    """Divides the logits, so that probabilities are calibrated."""

    def logits(self, features: Features, rows: Rows) -> Tensor:
        """(n, C) of some rows, not divided by the temperature."""
        chunks = chunks_of(rows, features.shape[1])
        parts = [self._logits(torch.from_numpy(features[chunk])) for chunk in chunks]
        return torch.cat(parts) if parts else torch.empty(0, len(self.intercept))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(n, C) calibrated; rows sum to 1 where an image has one label."""
        scaled = logits / self.temperature
        return scaled.sigmoid() if self.several else scaled.softmax(dim=1)

    def _logits(self, features: Tensor) -> Tensor:
        return F.linear(self.standardisation.apply(features), self.weights, self.intercept)


@dataclass(frozen=True)
class Fitted:
    """One point of a path of L2 values."""

    l2: float
    model: Linear
    objective: float
    evaluations: int
    """Passes over the rows."""
    parameters: Tensor
    """As the solver holds them; another problem of the same shape may start there."""


@dataclass
class Problem:
    """What to fit, and the state that a path hands from one L2 value to the next.

    Args:
        design: n standardised rows.
        targets: (n,) int64 in [0, C), or (n, C) of 0 and 1 where an image may have several labels.
        classes: C.
        quick: dtype of the first products of each fit; float32 finishes it.
    """

    design: Design
    targets: Tensor
    classes: int
    standardisation: Standardisation
    quick: torch.dtype = torch.float32
    parameters: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.several = self.targets.ndim == 2
        self.columns = -(-self.classes // COLUMN_STEP) * COLUMN_STEP
        self.targets = self.targets.to(self.design.device)
        if self.several:
            self.targets = F.pad(self.targets.float(), (0, self.columns - self.classes))
        self.parameters = torch.zeros(
            self.columns * (self.design.width + 1), device=self.design.device
        )
        sample = self.design.sample(max(LEAST_SAMPLE, SAMPLED * self.design.width))
        self._gram = sample.T @ sample / len(sample)
        self._sample = sample[:: max(1, len(sample) // LEAST_SAMPLE)].clone()

    def fit(self, l2: float, tolerance: float, most_iterations: int = 200) -> Fitted:
        """The classifier at one L2 value, starting where the last one ended.

        Args:
            tolerance: nats of the objective that it may be above the minimum, as far as that can be
                estimated.
        """
        precondition = self._preconditioner(l2)
        stages = [(torch.float32, tolerance)]
        if self.quick is not torch.float32:
            stages.insert(0, (self.quick, max(tolerance, QUICK_TOLERANCE)))
        evaluations = 0
        for dtype, enough in stages:
            found = self._minimise(l2, dtype, precondition, enough, most_iterations)
            evaluations += found.evaluations
            self.parameters = found.parameters
        weights, intercept = self._split(self.parameters)
        model = Linear(
            weights[: self.classes].cpu().clone(),
            intercept[: self.classes].cpu().clone(),
            self.standardisation,
            self.several,
        )
        return Fitted(l2, model, found.value, evaluations, self.parameters)

    def _minimise(
        self,
        l2: float,
        dtype: torch.dtype,
        precondition: Callable[[Tensor], Tensor],
        tolerance: float,
        most: int,
    ) -> Minimum:
        def objective(parameters: Tensor) -> tuple[float, Tensor]:
            return self._objective(parameters, l2, dtype)

        return minimise(
            objective, self.parameters, precondition, tolerance=tolerance, most_iterations=most
        )

    def _objective(self, parameters: Tensor, l2: float, dtype: torch.dtype) -> tuple[float, Tensor]:
        weights, intercept = self._split(parameters)
        gradient = torch.zeros_like(parameters)
        of_weights, of_intercept = self._split(gradient)
        total = torch.zeros((), dtype=torch.float64, device=parameters.device)
        rounded = weights.to(dtype)
        for place, x in self.design.chunks(dtype):
            logits = F.linear(x, rounded).float() + intercept
            losses, errors = self._losses(logits, self.targets[place])
            total += losses.sum(dtype=torch.float64)
            of_weights += (errors.to(dtype).T @ x).float()
            of_intercept += errors.sum(dim=0)
        gradient /= self.design.rows
        of_weights += l2 * weights
        value = float(total) / self.design.rows + l2 / 2 * float(
            weights.square().sum(dtype=torch.float64)
        )
        return value, gradient

    def _losses(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) losses and (n, P) derivatives by the logits; 0 in the columns that are no class."""
        if self.several:
            losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
            errors = logits.sigmoid() - targets
            errors[:, self.classes :] = 0
            return losses[:, : self.classes].sum(dim=1), errors
        logits[:, self.classes :] = -torch.inf
        logs = logits.log_softmax(dim=1)
        chosen = targets[:, None]
        losses = -logs.gather(1, chosen)[:, 0]
        errors = logs.exp_()
        return losses, errors.scatter_add_(1, chosen, errors.new_full(chosen.shape, -1.0))

    def _preconditioner(self, l2: float) -> Callable[[Tensor], Tensor]:
        """The inverse of a block diagonal Hessian, one block for all classes: spread XᵀX / n + l2.

        The spread is the mean over rows and classes of p (1 - p) at the present parameters.
        Weighing the rows of XᵀX by their own spread, anew for each l2, takes as many passes and
        costs more (docs/LOG.md).
        """
        weights, intercept = self._split(self.parameters)
        logits = F.linear(self._sample, weights, intercept)[:, : self.classes]
        p = logits.sigmoid() if self.several else logits.softmax(dim=1)
        spread = max(float((p * (1 - p)).mean()), DAMPING)
        hessian = spread * self._gram
        hessian.diagonal().add_(
            l2 + DAMPING * float(hessian.diagonal().mean()) + torch.finfo(torch.float32).tiny
        )
        factor = torch.linalg.cholesky(hessian)

        def precondition(vector: Tensor) -> Tensor:
            result = torch.empty_like(vector)
            to_weights, to_intercept = self._split(result)
            from_weights, from_intercept = self._split(vector)
            to_weights.copy_(torch.cholesky_solve(from_weights.T, factor).T)
            torch.div(from_intercept, spread, out=to_intercept)
            return result

        return precondition

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Views of weights (P, D) and intercept (P,)."""
        count = self.columns * self.design.width
        return parameters[:count].view(self.columns, self.design.width), parameters[count:]


def path(problem: Problem, values: Sequence[float], tolerance: float) -> Iterator[Fitted]:
    """A classifier for each L2 value, from strong to weak, each starting from the last."""
    for l2 in values:
        yield problem.fit(l2, tolerance)
