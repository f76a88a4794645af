"""L-BFGS for smooth convex functions, with a preconditioner: few, costly evaluations. P
parameters.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

HISTORY = 10
"""Pairs of steps and changes of gradient that are remembered."""
SUFFICIENT, CURVATURE = 1e-4, 0.9
"""Of the weak Wolfe conditions (Nocedal & Wright, section 3.1)."""
ROUNDING = 1e-7
"""Of a value in float32: a step may raise it by so much, or near the minimum none would pass."""
MOST_TRIALS = 30
"""Step lengths tried before the line is given up: then rounding hides what is left to gain."""

Objective = Callable[[Tensor], tuple[float, Tensor]]
"""(P,) θ to f and (P,) g."""


class Minimum(NamedTuple):
    """Where minimise() stopped."""

    parameters: Tensor
    value: float
    evaluations: int
    gap: float
    """What f may still be above its minimum, as the quadratic model estimates it."""


class _Point(NamedTuple):
    parameters: Tensor
    value: float
    gradient: Tensor


def minimise(
    objective: Objective,
    start: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    tolerance: float,
    most_iterations: int = 200,
) -> Minimum:
    """Minimise a smooth convex function.

    Args:
        start: (P,) float32.
        precondition: a fixed positive definite map, (P,) to (P,), near the inverse of the Hessian.
        tolerance: stop once the estimated gap is at most this.

    Source: Nocedal & Wright 2006, algorithm 7.4, with the preconditioner in place of the identity.
    """
    memory: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=HISTORY)
    here = _Point(start, *objective(start))
    evaluations = 1
    gap = float("inf")
    for _ in range(most_iterations):
        direction = -_inverse_hessian(here.gradient, memory, precondition)
        slope = float(direction @ here.gradient)
        gap = -slope / 2
        if gap <= tolerance:
            break
        there, trials = _search(objective, here, direction, slope)
        evaluations += trials
        if there is None:
            break
        step = there.parameters - here.parameters
        change = there.gradient - here.gradient
        curvature = float(step @ change)
        if curvature > 0:
            memory.append((step, change, 1 / curvature))
        here = there
    return Minimum(here.parameters, here.value, evaluations, gap)


def _inverse_hessian(
    gradient: Tensor,
    memory: deque[tuple[Tensor, Tensor, float]],
    precondition: Callable[[Tensor], Tensor],
) -> Tensor:
    """The two loops: the inverse Hessian, as the remembered steps tell, times the gradient."""
    q = gradient.clone()
    weights = []
    for step, change, rho in reversed(memory):
        weight = rho * float(step @ q)
        weights.append(weight)
        q -= weight * change
    r = precondition(q)
    if memory:
        _, change, rho = memory[-1]
        r *= 1 / (rho * float(change @ precondition(change)))
    for (step, change, rho), weight in zip(memory, reversed(weights), strict=True):
        r += (weight - rho * float(change @ r)) * step
    return r


def _search(
    objective: Objective, here: _Point, direction: Tensor, slope: float
) -> tuple[_Point | None, int]:
    """A step that satisfies the weak Wolfe conditions, by bisection; None where none is found.

    Source: Lewis & Overton 2013, section 2.
    """
    low = 0.0
    high = float("inf")
    length = 1.0
    slack = ROUNDING * abs(here.value)
    best: _Point | None = None
    for trial in range(1, MOST_TRIALS + 1):
        parameters = here.parameters + length * direction
        there = _Point(parameters, *objective(parameters))
        if not there.value <= here.value + SUFFICIENT * length * slope + slack:
            high = length
        else:
            best = there
            if float(there.gradient @ direction) >= CURVATURE * slope:
                return there, trial
            low = length
        length = 2 * low if high == float("inf") else (low + high) / 2
    return best, MOST_TRIALS
