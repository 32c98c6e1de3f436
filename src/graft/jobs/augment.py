"""`graft augment`: what augmentation does to a picture of yours, as one page of examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps

from graft.data.augmentation import policies
from graft.data.decode import decode, read_picture
from graft.disk.files import write_whole
from graft.errors import UsageError, shown
from graft.pages.augment import Pixels, Row, as_html, as_image

if TYPE_CHECKING:
    from graft.data.augmentation.mixing import Kind

SUFFIXES: Final = (".png", ".jpg", ".webp", ".html")
MIXING: Final[dict[Kind, str]] = {
    "mixup": "blended with another picture, λ of Beta(1, 1)",
    "cutmix": "a box of another picture, 1 − λ of the area",
}
_NEED_ANOTHER: Final = ("histogram", *MIXING)
_MOST_DRAWS: Final = 20
_LONGEST: Final = 2  # a picture's long side over its short one; of a longer picture the middle is shown


def run_augment(
    image: Path,
    *,
    policy: str | None = None,
    only: str | None = None,
    others: Sequence[Path] = (),
    out: Path | None = None,
    draws: int = 6,
    side: int = 128,
    seed: int = 0,
    force: bool = False,
) -> str:
    """What `graft augment` prints, once the page is written.

    policy: show its members and then all of it. only: augmentations by name, commas between; all if neither is given.
    others: pictures to mix with and to take histograms from. out: a file of SUFFIXES, `IMAGE-augmented.png` if None.
    draws: examples of each, 1 to 20. side: short side in pixels at which pictures are augmented and shown; smaller
    ones keep their size, and are shown enlarged. force: replace `out`.
    Raises UsageError for an unknown name or a bad value, or where `out` exists; BadPicture; GraftError on a full disk.
    """
    out = out or Path(f"{image.stem}-augmented.png")
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out must end in {', '.join(SUFFIXES)}, got {shown(out)}; choose one of these")
    if out.exists() and not force:
        raise UsageError(f"{shown(out)} exists already; choose another --out, or --force to replace it")
    if not 1 <= draws <= _MOST_DRAWS:
        raise UsageError(f"--draws must be 1 to {_MOST_DRAWS}, got {draws}")
    if not 8 <= side <= 512:
        raise UsageError(f"--side must be 8 to 512 pixels, got {side}")
    if not 0 <= seed < 2**64:
        raise UsageError(f"--seed must be at least 0 and below 2**64, got {seed}")
    names = _names(policy, only, alone=not others)
    rows = examples(image, names, others=others, draws=draws, side=side, seed=seed)
    title = f"Augmentation of {shown(image.name)}, seed {seed}"
    write_whole(
        out, as_html(rows, title) if out.suffix.lower() == ".html" else as_image(rows, title, out.suffix.lower())
    )
    left_out = [name for name in _NEED_ANOTHER if not others and policy is None and only is None]
    more = f"\nleft out {', '.join(left_out)}, which need another picture; add --with PICTURE" if left_out else ""
    shows = "1 example" if draws == 1 else f"{draws} examples"
    return f"wrote {shown(out)}: {len(names)} ways to change a picture, {shows} of each{more}"


def examples(
    image: Path, names: Sequence[str], *, others: Sequence[Path] = (), draws: int = 6, side: int = 128, seed: int = 0
) -> tuple[Row, ...]:
    """The picture itself (and the others), then a row for each name of an augmentation, policy or kind of mixing.

    Other arguments: as `run_augment` takes them. An augmentation by name is applied to all pictures of its row, a
    policy as training applies it: to its share of them. Raises BadPicture for what is no picture.
    """
    picture = _read(image, side)
    size = (picture.shape[1], picture.shape[0])
    rest = tuple(_read(other, side, size) for other in others)
    summary = f"{size[0]}×{size[1]}" + (", and what it is mixed with" if rest else "")
    rows = [Row("original", summary, (picture, *rest)[:draws])]
    rows += [
        Row(name, _summary(name), tuple(_changed(name, (picture, *rest), draw, seed) for draw in range(draws)))
        for name in names
    ]
    return tuple(rows)


def _names(policy: str | None, only: str | None, *, alone: bool) -> tuple[str, ...]:
    """What the rows show. Raises UsageError for names that are none, or that need another picture when alone."""
    if policy is not None and only is not None:
        raise UsageError("--policy shows a policy and --only some augmentations; choose one of them")
    if policy is not None:
        members = tuple(card.name for card in policies.parse(policy) if not (alone and card.name in _NEED_ANOTHER))
        return members if policy in members else (*members, policy)
    if only is None:
        named = (*(card.name for card in policies.CARDS), *MIXING, *policies.POLICIES)
        return tuple(name for name in named if name != "none" and not (alone and name in _NEED_ANOTHER))
    named = tuple(name.strip() for name in only.split(","))
    if others := [name for name in named if name not in MIXING]:
        policies.parse(",".join(others))
    if needy := [name for name in named if alone and name in _NEED_ANOTHER]:
        raise UsageError(f"{needy[0]} needs another picture; add --with PICTURE")
    return named


def _summary(name: str) -> str:
    summaries = {card.name: card.summary for card in policies.CARDS}
    summaries.update((kind, summary) for kind, summary in MIXING.items())
    return summaries.get(name, "all of it, as training applies it")


def _read(path: Path, side: int, size: tuple[int, int] | None = None) -> Pixels:
    """A picture of short side `side` or less, at most twice as long; or cut to `size` (width, height)."""
    image = decode(read_picture(path), name=str(path), shortest=side).image
    if size is None:
        short = min(image.size)
        longest = _LONGEST * short
        shape = (min(image.width, longest), min(image.height, longest))
        scale = min(1.0, side / short)
        size = (round(shape[0] * scale), round(shape[1] * scale))
    return np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS))


def _changed(name: str, pictures: Sequence[Pixels], draw: int, seed: int) -> Pixels:
    """The first picture changed, in a batch with one of the others if there are any; `draw` is the epoch."""
    import torch

    from graft.data.augmentation.augment import augment, policy
    from graft.data.augmentation.mixing import mix

    partners = pictures[1:]
    batch = np.stack([pictures[0], *([partners[draw % len(partners)]] if partners else [])])  # (1 or 2, H, W, 3)
    x = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
    if _is_grey(batch):
        x = x[:, :1]
    samples = np.arange(len(x))
    kind = next((kind for kind in MIXING if kind == name), None)
    if kind is not None:
        x, _ = mix(x, torch.eye(len(x)), kind=kind, alpha=1.0, seed=seed, epoch=draw, samples=samples)
    else:
        steps = policy(name)
        if name not in policies.POLICIES and len(steps) == 1:
            steps = (replace(steps[0], share=1.0),)
        x = augment(x, steps, seed=seed, epoch=draw, samples=samples)
    changed = (x[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return np.broadcast_to(changed, pictures[0].shape)


def _is_grey(pixels: Pixels) -> bool:
    """Whether all three channels are alike; pixels: (..., 3)."""
    return bool((pixels == pixels[..., :1]).all())
