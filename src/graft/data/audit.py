"""What is wrong with a collection of labelled pictures, most serious first, before anything is learnt from it.

An error makes a score or a label untrue; a warning should be looked at before training; a note is worth knowing.
Paths in the findings are relative to the collection's root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from graft.data.decode import SUFFIXES
from graft.data.duplicates import exact_groups
from graft.data.facts import FACTS, FORMATS, MODES
from graft.data.sources.scan import Collection
from graft.errors import shown

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")

# Every limit, and why it stands where it does.
FEW: Final = 10  # pictures in a class: below, a fifth for the test is one picture, and its accuracy 0 or 1
IMBALANCE_NOTE: Final = 3.0  # largest class over smallest: from here accuracy and balanced accuracy part
IMBALANCE_WARNING: Final = 10.0  # from here a model may ignore the smallest class at little cost
TINY: Final = 32  # pixels, shorter side: the usual trunks reduce by 32, which leaves one cell
BLANK: Final = 2.0  # standard deviation of grey, 0–127.5: a plain surface with sensor noise stays below
DARK: Final = 40  # 95th percentile of grey, 0–255: below, nearly all of the picture looks black on a screen
BLUR: Final = 0.03  # variance of the Laplacian over that of grey: photos 256 px wide fall below at a blur of 2–3 px
BLUR_SPREADS: Final = (
    3.0  # plain objects fall below BLUR too, so a blurred picture must also stand apart from its collection
)
RARE: Final = 0.05  # share of the pictures up to which something counts as the exception
ASPECT: Final = 2.0  # times longer or wider than the median shape: squashed to a square it looks like something else
SMALL: Final = 4.0  # times below the median shorter side: enlarged that much it has visibly less detail
GIVEAWAY: Final = 0.9  # share of a class, and of the pictures elsewhere the other way round, that a format tells apart

_PATHS_SHOWN: Final = 4  # of one group, in the text; its item has them all
_CLASSES_SHOWN: Final = 8  # in one message; Audit.counts has them all


@dataclass(frozen=True, slots=True)
class Item:
    """One picture, or pictures that belong together, and a few words on them."""

    paths: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. kind: a fixed name for programs; message: one line for people; items: every case."""

    severity: Severity
    kind: str
    message: str
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at and what was found, most serious first. counts: pictures of each class, in class order."""

    root: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "note" for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        """Plain dicts, lists, strings and numbers, complete."""
        return asdict(self)


def audit(collection: Collection, facts: NDArray[np.void], groups: NDArray[np.int64]) -> Audit:
    """Everything worth knowing of a collection before it is learnt from.

    facts: (n,) records of FACTS, one for each of collection.samples, in their order; pictures that would not decode
    stand in collection.problems instead. groups: (n,), what near_groups(facts) gave.
    Raises ValueError unless facts and groups have one entry for every sample.
    """
    n = len(collection.samples)
    if facts.dtype != FACTS or facts.shape != (n,) or groups.shape != (n,):
        raise ValueError(
            f"audit needs a record of FACTS and a group for each of {n} samples, got {facts.shape} and {groups.shape}"
        )
    labels = np.array([sample.label for sample in collection.samples], np.int64)
    counts = np.bincount(labels, minlength=len(collection.classes))
    paths = np.array([_relative(sample.path, collection.root) for sample in collection.samples], object)
    findings = (
        *_problems(collection),
        *_repeats(collection, labels, paths, exact_groups(facts), groups),
        *_class_sizes(collection.classes, counts),
        *_giveaways(collection.classes, labels, facts),
        *_bad_pictures(facts, paths),
        *_odd_pictures(facts, paths),
    )
    ordered = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(collection.root, collection.classes, tuple(counts.tolist()), tuple(ordered))


def text(found: Audit, *, examples: int = 3) -> str:
    """An audit for people: a line for each finding and at most `examples` cases of it; names are escaped."""
    tally = ", ".join(
        _count(sum(finding.severity == severity for finding in found.findings), severity) for severity in SEVERITIES
    )
    lines = [f"{_count(sum(found.counts), 'picture')} in {_count(len(found.classes), 'class', 'classes')}: {tally}"]
    for finding in found.findings:
        lines.append(f"{finding.severity:7}  {shown(finding.message)}")
        for item in finding.items[:examples]:
            note = f"  ({item.note})" if item.note and len(item.paths) <= _PATHS_SHOWN else ""
            lines.append(f"         - {shown(_few(item.paths, _PATHS_SHOWN, ' | ') + note)}")
        if len(finding.items) > examples:
            lines.append(f"         … and {len(finding.items) - examples:,} more")
    return "\n".join(lines)


def _problems(collection: Collection) -> Iterator[Finding]:
    if collection.problems:
        items = tuple(Item((_relative(p.path, collection.root),), p.reason) for p in collection.problems)
        yield Finding("warning", "set-aside", f"{_count(len(items), 'file')} set aside, not learnt from", items)


def _repeats(
    collection: Collection,
    labels: NDArray[np.int64],
    paths: NDArray[np.object_],
    exact: NDArray[np.int64],
    near: NDArray[np.int64],
) -> Iterator[Finding]:
    """Duplicates: under two labels, on both sides of a given split, and all of them."""
    names = np.array(collection.classes, object)[labels]
    splits = np.array([sample.split for sample in collection.samples], object)
    exact_sets = _groups(exact)
    near_sets = [members for members in _groups(near) if len(np.unique(exact[members])) > 1]
    each = np.arange(len(paths))  # every picture a subset of its own

    if torn := _torn(exact_sets, names, each, paths):
        yield Finding("error", "two-labels-exact", f"{_count(len(torn), 'picture')} under different labels", torn)
    if torn := _torn(exact_sets, splits, each, paths):
        yield Finding("error", "leak-exact", f"{_count(len(torn), 'picture')} in more than one split", torn)
    if torn := _torn(near_sets, names, exact, paths):
        message = f"{_count(len(torn), 'group')} of near-duplicates under different labels"
        yield Finding("warning", "two-labels-near", message, torn)
    if torn := _torn(near_sets, splits, exact, paths):
        message = f"{_count(len(torn), 'group')} of near-duplicates in more than one split"
        yield Finding("warning", "leak-near", message, torn)
    if exact_sets:
        message = f"{_count(len(exact_sets), 'picture')} there more than once, in {sum(map(len, exact_sets)):,} files"
        yield Finding("warning", "duplicates-exact", message, tuple(Item(tuple(paths[g])) for g in exact_sets))
    if near_sets:
        message = f"{_count(len(near_sets), 'group')} of near-duplicates, {sum(map(len, near_sets)):,} pictures"
        yield Finding("note", "duplicates-near", message, tuple(Item(tuple(paths[g])) for g in near_sets))


def _torn(
    groups: list[NDArray[np.int64]],
    values: NDArray[np.object_],
    subsets: NDArray[np.int64],
    paths: NDArray[np.object_],
) -> tuple[Item, ...]:
    """The groups that hold more values than any of their subsets (reported already) holds by itself.

    values: (n,) names of classes or splits; None counts for nothing. subsets: (n,) ids of finer groups.
    """
    items = []
    for members in groups:
        by_subset: dict[int, set[str]] = {}
        for member in members:
            if values[member] is not None:
                by_subset.setdefault(int(subsets[member]), set()).add(values[member])
        held: set[str] = set().union(*by_subset.values())
        if len(held) > max(map(len, by_subset.values()), default=0):
            items.append(
                Item(tuple(paths[members]), ", ".join(str(values[member] or "no split") for member in members))
            )
    return tuple(items)


def _groups(ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """(n,) group ids → the members of each group of two or more, by first member."""
    order = np.argsort(ids, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(ids) else []
    return sorted((part for part in parts if len(part) > 1), key=lambda part: int(part[0]))


def _class_sizes(classes: tuple[str, ...], counts: NDArray[np.int64]) -> Iterator[Finding]:
    def sized(low: int, high: int) -> str:
        sizes = zip(classes, counts.tolist(), strict=True)
        return _few(tuple(f"{name} ({n})" for name, n in sizes if low <= n <= high), _CLASSES_SHOWN, ", ")

    if empty := sized(0, 0):
        yield Finding("error", "empty-class", f"classes without a readable picture: {empty}")
    if single := sized(1, 1):
        yield Finding("warning", "single-picture", f"classes with one picture, not split: {single}")
    if few := sized(2, FEW - 1):
        yield Finding("warning", "few-pictures", f"classes with fewer than {FEW} pictures: {few}")
    filled = counts[counts > 0]
    ratio = filled.max() / filled.min() if len(filled) else 1.0
    if ratio >= IMBALANCE_NOTE:
        largest = int(counts.argmax())
        share = counts[largest] / counts.sum()
        yield Finding(
            "warning" if ratio >= IMBALANCE_WARNING else "note",
            "imbalance",
            f"the largest class is {ratio:.1f} times the smallest; always answering {classes[largest]!r} "
            f"would be right {share:.0%} of the time",
        )


def _giveaways(classes: tuple[str, ...], labels: NDArray[np.int64], facts: NDArray[np.void]) -> Iterator[Finding]:
    """Properties of the files that tell a class from the rest: a network may learn these in place of the object."""
    properties = (
        ("format", np.array(FORMATS, object)[facts["format"]]),
        ("colour", np.where(facts["grey"], "grey", "colour").astype(object)),
        ("size", _sizes(facts)),
    )
    for label in np.flatnonzero(np.bincount(labels, minlength=len(classes)) >= FEW):
        inside = labels == label
        if inside.all():
            return
        for name, values in properties:
            kinds, numbers = np.unique(values[inside], return_counts=True)
            value, here = kinds[numbers.argmax()], numbers.max() / inside.sum()
            elsewhere = (values[~inside] == value).mean()
            if here >= GIVEAWAY and elsewhere <= 1 - GIVEAWAY:
                yield Finding(
                    "warning",
                    "giveaway",
                    f"{name} gives {classes[label]!r} away: {here:.0%} of it is {value}, {elsewhere:.0%} of the rest",
                )


def _bad_pictures(facts: NDArray[np.void], paths: NDArray[np.object_]) -> Iterator[Finding]:
    blank = facts["contrast"] < BLANK
    dark = (facts["bright_end"] < DARK) & ~blank
    shorter = np.minimum(facts["width"], facts["height"])
    yield from _pictures("warning", "blank", "blank: hardly any contrast", blank, paths)
    yield from _pictures("note", "dark", "very dark", dark, paths)
    yield from _pictures("note", "blurred", "perhaps blurred: far less sharp than the rest", _blurred(facts), paths)
    tiny = shorter < TINY
    yield from _pictures("note", "tiny", f"tiny: shorter side under {TINY} px", tiny, paths, _sizes(facts))


def _blurred(facts: NDArray[np.void]) -> NDArray[np.bool_]:
    """(n,): pictures below BLUR that are also BLUR_SPREADS below the collection's median on a logarithmic scale."""
    relative = facts["sharpness"] / np.maximum(facts["contrast"], BLANK) ** 2
    scale = np.log2(np.maximum(relative, 1e-6))
    middle = np.median(scale) if len(scale) else 0.0
    spread = 1.4826 * np.median(np.abs(scale - middle)) if len(scale) else 0.0  # of a normal distribution
    apart = scale < middle - BLUR_SPREADS * spread
    found: NDArray[np.bool_] = apart & (relative < BLUR) & (facts["contrast"] >= BLANK)
    return found


def _odd_pictures(facts: NDArray[np.void], paths: NDArray[np.object_]) -> Iterator[Finding]:
    if not len(facts):
        return
    sizes = _sizes(facts)
    aspect = np.log2(facts["width"] / facts["height"])
    odd_shape = np.abs(aspect - np.median(aspect)) >= np.log2(ASPECT)
    shorter = np.minimum(facts["width"], facts["height"])
    small = shorter * SMALL <= np.median(shorter)
    modes = np.array(MODES, object)[facts["mode"]]
    suffixes = np.array([os.path.splitext(path)[1].lower() for path in paths], object)
    formats = np.array(FORMATS, object)[facts["format"]]
    misnamed = np.array([SUFFIXES.get(s, f) != f for s, f in zip(suffixes, formats, strict=True)])
    named = "named " + suffixes + " but holds " + formats

    yield from _pictures("note", "misnamed", "whose name says another format", misnamed, paths, named)
    yield from _pictures("note", "shape", "of an unusual shape", _rare(odd_shape), paths, sizes)
    yield from _pictures("note", "small", "far smaller than the rest", _rare(small), paths, sizes)
    yield from _pictures("note", "grey", "grey among coloured ones", _rare(facts["grey"]), paths)
    yield from _pictures("note", "coloured", "coloured among grey ones", _rare(~facts["grey"]), paths)
    values, numbers = np.unique(facts["mode"], return_counts=True)
    usual = (facts["mode"] == values[numbers.argmax()]) | np.isin(modes, ("L", "RGB"))  # grey is said above
    yield from _pictures("note", "mode", "stored in an unusual mode", _rare(~usual), paths, modes)


def _rare(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask, or nothing at all where it holds more than a RARE share."""
    return mask & bool(mask.mean() <= RARE)


def _pictures(
    severity: Severity,
    kind: str,
    message: str,
    mask: NDArray[np.bool_],
    paths: NDArray[np.object_],
    notes: NDArray[np.object_] | None = None,
) -> Iterator[Finding]:
    """One finding with every picture under the mask; none where there is no such picture."""
    which = np.flatnonzero(mask)
    if len(which):
        items = tuple(Item((paths[i],), notes[i] if notes is not None else "") for i in which)
        yield Finding(severity, kind, f"{_count(len(which), 'picture')} {message}", items)


def _sizes(facts: NDArray[np.void]) -> NDArray[np.object_]:
    return np.array([f"{w}×{h}" for w, h in zip(facts["width"], facts["height"], strict=True)], object)


def _relative(path: str, root: str) -> str:
    """A path below the root without it; any other as it is."""
    return path.removeprefix(os.path.join(root, ""))


def _few(names: tuple[str, ...], most: int, separator: str) -> str:
    """At most so many of the names, and how many were left out."""
    left_out = f"{separator}… {len(names) - most:,} more" if len(names) > most else ""
    return separator.join(names[:most]) + left_out


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"
