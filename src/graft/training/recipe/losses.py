"""Losses: one number for each sample, so that the loop averages, weighs and records them as it needs.

Targets are class numbers (N,) int64, or probabilities (N, K) as mixup and CutMix give them. torch computes both losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from graft.errors import UsageError, nearest, shown

if TYPE_CHECKING:
    from torch import Tensor

CROSS_ENTROPY: Final = "cross-entropy"
SVM: Final = "svm"
LOSSES: Final = (CROSS_ENTROPY, SVM)

Loss = Callable[["Tensor", "Tensor"], "Tensor"]  # logits (N, K), target → (N,)


def cross_entropy(
    logits: Tensor, target: Tensor, *, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """−log of the softmax probability of the right class: −log(e^{f_y} / Σⱼ e^{f_j}).

    logits: (N, K). target: (N,) int64 class numbers or (N, K) probabilities. smoothing: the share of each target that
    is spread evenly over all K classes, 0–1. class_weights: (K,), multiplies each class's part.
    Returns (N,) ≥ 0, in nats. Raises ValueError for shapes that do not fit.
    Source of smoothing: Szegedy et al., CVPR 2016, §7, arXiv:1512.00567.
    """
    import torch.nn.functional as F

    _check("cross_entropy", logits, target, class_weights)
    weight = None if class_weights is None else class_weights.to(logits.dtype)
    soft = target if target.ndim == 1 else target.to(logits.dtype)
    return F.cross_entropy(logits, soft, weight=weight, label_smoothing=smoothing, reduction="none")


def multiclass_svm(
    logits: Tensor, target: Tensor, *, margin: float = 1.0, class_weights: Tensor | None = None
) -> Tensor:
    """How far wrong classes come within `margin` of the right one: Σ_{j≠y} max(0, s_j − s_y + margin).

    logits: (N, K) scores. target: (N,) int64 class numbers, or (N, K) probabilities, over which the loss is averaged.
    class_weights: (K,), multiplies the loss of each right class.
    Returns (N,) ≥ 0. Raises ValueError for shapes that do not fit.
    Source: Weston and Watkins, ESANN 1999; torch divides the sum by K, the lectures do not.
    """
    import torch
    import torch.nn.functional as F

    _check("multiclass_svm", logits, target, class_weights)
    classes = logits.shape[1]
    weight = None if class_weights is None else class_weights.to(logits.dtype)

    def hard(labels: Tensor) -> Tensor:
        return classes * F.multi_margin_loss(logits, labels, margin=margin, weight=weight, reduction="none")

    if target.ndim == 1:
        return hard(target)
    most = int((target != 0).sum(dim=1).max()) if len(target) else 0  # classes in the most mixed sample: 2 for mixup
    shares, labels = target.to(logits.dtype).topk(most, dim=1)  # (N, most)
    return torch.stack([shares[:, place] * hard(labels[:, place]) for place in range(most)]).sum(dim=0)


def loss_function(name: str, *, smoothing: float = 0.0, class_weights: Tensor | None = None) -> Loss:
    """The loss of this name as a function of logits (N, K) and target, which returns (N,).

    Raises UsageError for an unknown name, a smoothing outside 0–1, or smoothing asked of the SVM, which has none.
    """
    if name not in LOSSES:
        raise UsageError(f"no loss {shown(name)!r}, there are {', '.join(LOSSES)}{nearest(name, LOSSES)}")
    if not 0 <= smoothing < 1:
        raise UsageError(f"label smoothing must be from 0 to below 1, got {smoothing:g}; 0.1 is usual")
    if name == SVM and smoothing:
        raise UsageError(f"label smoothing belongs to {CROSS_ENTROPY}, the SVM's loss has none; leave one of them out")
    if name == SVM:
        return lambda logits, target: multiclass_svm(logits, target, class_weights=class_weights)
    return lambda logits, target: cross_entropy(logits, target, smoothing=smoothing, class_weights=class_weights)


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Class weights that let every class count alike: N / (K · n_c), whose mean over the N samples is 1.

    counts: training samples n_c of each class. Returns a float32 for each; a class without samples weighs 0 and is not
    among the K.
    Source: King and Zeng, Political Analysis 9(2), 2001; scikit-learn's "balanced".
    """
    import torch

    seen = sum(count > 0 for count in counts)
    total = sum(counts)
    return torch.tensor([total / (seen * count) if count else 0.0 for count in counts], dtype=torch.float32)


def _check(name: str, logits: Tensor, target: Tensor, class_weights: Tensor | None) -> None:
    """Raises ValueError unless logits are (N, K), target is (N,) int64 or (N, K) float, and weights are (K,)."""
    if (
        logits.ndim != 2
        or target.shape not in (logits.shape[:1], logits.shape)
        or target.is_floating_point() != (target.ndim == 2)
        or (class_weights is not None and class_weights.shape != logits.shape[1:])
    ):
        weights = "" if class_weights is None else f" and class weights {tuple(class_weights.shape)}"
        raise ValueError(
            f"{name} needs logits (N, K), a target (N,) int64 or (N, K) float and class weights (K,), "
            f"got logits {tuple(logits.shape)}, target {tuple(target.shape)} {target.dtype}{weights}"
        )
