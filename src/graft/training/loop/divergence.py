"""Why a loss stopped being a number: the likely causes, in the order in which they are worth a look."""

from __future__ import annotations

from graft.training.recipe.settings import Recipe


def explain(settings: Recipe, *, step: int, rate: float, peak: float, last_loss: float | None) -> str:
    """One line: when it happened, and what is likely behind it.

    step: by which it was seen. rate: in that step; peak: the base rate. last_loss: the last finite one in the history.
    """
    causes = [f"the rate is too high (it was {rate:.3g} of a base of {peak:.3g}; try {peak / 10:.3g})"]
    if settings.clip is None:
        causes.append("a few batches have very large gradients (try clip = 1)")
    if not settings.warmup and settings.schedule != "one-cycle":
        causes.append("the first steps are too long (try warmup = 1)")
    if settings.l1 or settings.l2 or settings.weight_decay >= 0.01:
        causes.append("the weights' penalty times the rate is too large (try a tenth of weight_decay, l1 and l2)")
    if settings.normalization == "none":
        causes.append("the pictures are not normalised (try normalization = channels)")
    if settings.precision != "float32":
        causes.append("bfloat16 is too coarse for this network (try precision = float32)")
    causes.append("the network starts with weights that are not finite, or divides by zero")
    before = "" if last_loss is None else f", after {last_loss:.4g} in the line before it"
    return f"the loss was not a finite number at step {step}{before}; likely causes, in order: " + "; ".join(causes)
