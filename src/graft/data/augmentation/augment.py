"""Augmentation: pictures changed anew each epoch, for training alone.

Each augmentation is a pure function, uniforms in and pictures out, over a whole batch. The uniforms are drawn from
(seed, epoch, sample, place in the policy), so a picture gets the same change whatever batch it stands in; `histogram`
alone also looks at the rest of the batch. Augmentations that move points, when they follow one another, are one warp.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graft.data.augmentation import colour, degrade, geometry, policies
from graft.data.augmentation.colour import ColourComponents
from graft.data.augmentation.draw import uniforms
from graft.data.augmentation.geometry import Motion, Size

_CHUNK: Final = 2**19  # values at a time: 2 MiB, which stay in a core's cache from one step to the next


@dataclass(frozen=True)
class Augmentation:
    """One way to change pictures.

    name: as in `policies.CARDS`. draws: how many uniforms a picture takes. apply: pictures (N, C, H, W) of 0–1 and
    uniforms (N, draws) float64 in [0, 1) → pictures of the same shape and range. share: of the pictures that undergo
    it, 0–1. motion: the same as a motion of points, for those that are one. exact: a motion of whole pixels, which
    needs no resampling. across: what `apply` does with pictures and as many others of their batch, for one whose result
    depends on the rest of the batch.
    """

    name: str
    draws: int
    apply: Callable[[Tensor, Tensor], Tensor]
    share: float = 1.0
    motion: Callable[[Tensor, Size], Motion] | None = None
    exact: bool = False
    across: Callable[[Tensor, Tensor], Tensor] | None = None


def _warping(name: str, draws: int, motion: Callable[[Tensor, Size], Motion]) -> Augmentation:
    def apply(x: Tensor, u: Tensor) -> Tensor:
        return geometry.warp(x, [motion(u, (x.shape[2], x.shape[3]))])

    return Augmentation(name, draws, apply, motion=motion)


_ALL: Final = (
    Augmentation("flip", 0, lambda x, _: geometry.flip(x), motion=geometry.flip_motion, exact=True),
    Augmentation("crop", 2, geometry.crop, motion=geometry.crop_motion, exact=True),
    _warping("scale-crop", 3, geometry.scale_crop_motion),
    _warping("resized-crop", 4, geometry.resized_crop_motion),
    _warping("translate", 2, geometry.translation),
    _warping("rotate", 1, geometry.rotation),
    _warping("stretch", 2, geometry.stretch),
    _warping("shear", 2, geometry.shear),
    _warping("lens", 1, geometry.lens),
    Augmentation("brightness", 1, colour.brightness),
    Augmentation("contrast", 1, colour.contrast),
    Augmentation("saturation", 1, colour.saturation),
    Augmentation("hue", 1, colour.hue),
    Augmentation("jitter", 4, colour.jitter),
    Augmentation("pca", 3, colour.pca),
    Augmentation("histogram", 1, colour.histogram, across=colour.match_histograms),
    Augmentation("grey", 0, lambda x, _: colour.grey(x)),
    Augmentation("blur", 1, degrade.blur),
    Augmentation("jpeg", 1, degrade.jpeg),
    Augmentation("cutout", 2, degrade.cutout),
)

AUGMENTATIONS: Final = tuple(
    replace(augmentation, share=card.share) for augmentation, card in zip(_ALL, policies.CARDS, strict=True)
)


def policy(text: str, *, components: ColourComponents = colour.IMAGENET_COLOURS) -> tuple[Augmentation, ...]:
    """`none`, `light`, `standard`, `strong`, or names such as `flip,crop` → augmentations in order.

    components: what `pca` draws its noise along; those of the training split, where they are known.
    Raises UsageError for an unknown or repeated name.
    """
    by_name = {augmentation.name: augmentation for augmentation in AUGMENTATIONS}
    by_name["pca"] = replace(by_name["pca"], apply=lambda x, u: colour.pca(x, u, components))
    return tuple(replace(by_name[card.name], share=card.share) for card in policies.parse(text))


def augment(
    x: Tensor,
    policy: Sequence[Augmentation],
    *,
    seed: int,
    epoch: int,
    samples: npt.NDArray[np.int64],
    size: Size | None = None,
) -> Tensor:
    """Pictures through a policy.

    x: (N, C, H, W) float32 of 0–1, C 1 or 3, not changed. seed, epoch, samples (N,): what the changes are drawn from.
    size: of the result, the picture's own if None; the first warp brings pictures there, bilinearly, so it should not
    be much less than theirs. Returns (N, C, *size) of the same range. Raises ValueError for other shapes or types.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3) or x.dtype != torch.float32 or len(x) != len(samples):
        raise ValueError(
            f"augment needs float32 pictures (N, C, H, W), C 1 or 3, and as many samples, "
            f"got {x.dtype} {tuple(x.shape)} and {len(samples)} samples"
        )
    x = x.contiguous()
    size = size or (x.shape[2], x.shape[3])
    if min(size) < 1:
        raise ValueError(f"augment needs a size of 1 pixel or more, got {size}")
    if not len(x):
        return x.new_empty((0, x.shape[1], *size))
    # One column before each augmentation's own says whether the picture undergoes it.
    drawn = [uniforms(seed, epoch, samples, place, 1 + each.draws) for place, each in enumerate(policy)]
    u = [torch.from_numpy(numbers).to(x.device) for numbers in drawn]
    for across, members in itertools.groupby(range(len(policy)), key=lambda place: policy[place].across is not None):
        places = list(members)
        run = [policy[place] for place in places]
        at_once = len(x) if across else max(1, _CHUNK // x[0].numel())
        chunks = [slice(start, start + at_once) for start in range(0, len(x), at_once)]
        parts = [_changed(x[chunk], run, [u[place][chunk] for place in places], size) for chunk in chunks]
        x = torch.cat(parts) if len(parts) > 1 else parts[0]
    return x if x.shape[2:] == size else geometry.warp(x, [geometry.fitted(x, size)], size=size)


def _changed(x: Tensor, policy: Sequence[Augmentation], u: Sequence[Tensor], size: Size) -> Tensor:
    """Pictures through a policy, and to `size` by its first warp, if it has one; u: (N, 1 + draws) for each of its
    augmentations."""
    for run in _runs(policy):
        resamples = not all(policy[place].exact or policy[place].motion is None for place in run)
        if len(run) == 1 and not (resamples and x.shape[2:] != size):
            x = _applied(x, policy[run[0]], u[run[0]])
            continue
        before = (x.shape[2], x.shape[3])
        motions = [
            geometry.only(each.motion(u[place][:, 1:], before), _chosen(each, u[place]))
            for place, each in ((place, policy[place]) for place in run)
            if each.motion is not None
        ]
        x = geometry.warp(x, [*motions, geometry.fitted(x, size)] if before != size else motions, size=size)
    return x


def _runs(policy: Sequence[Augmentation]) -> Iterator[list[int]]:
    """Places that are done at once: motions that follow one another, if any of them resamples; all others alone."""
    for moves, members in itertools.groupby(range(len(policy)), key=lambda place: policy[place].motion is not None):
        places = list(members)
        if moves and not all(policy[place].exact for place in places):
            yield places
        else:
            yield from ([place] for place in places)


def _applied(x: Tensor, augmentation: Augmentation, u: Tensor) -> Tensor:
    if augmentation.share >= 1:
        return augmentation.apply(x, u[:, 1:])
    chosen = _chosen(augmentation, u)
    if not chosen.any():
        return x
    changed = x.clone()
    if augmentation.across:  # any picture may be the other, chosen or not
        changed[chosen] = augmentation.across(x[chosen], x[colour.partners(u[:, 1])[chosen]])
    else:
        changed[chosen] = augmentation.apply(x[chosen], u[chosen, 1:])
    return changed


def _chosen(augmentation: Augmentation, u: Tensor) -> Tensor:
    """(N,) bool."""
    return u[:, 0] < augmentation.share
