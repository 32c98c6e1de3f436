"""A network against a folder's pictures, and against the clock."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from graft.analysis.fit import fit_text, fit_to_pictures
from graft.analysis.measure import measure, measured_text
from graft.analysis.readers.trace import analyze_module
from graft.errors import UsageError


def stack(depth: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Conv2d(3, 3, 3, stride, 1) for _ in range(depth)))


def test_fields_in_the_pictures_own_pixels() -> None:
    """32² pictures enlarged 7 times to 224²: a field of 7 pixels of the input is one of the picture."""
    fit = fit_to_pictures(analyze_module(stack(3, 2)), [(32, 40), (32, 32), (30, 36)])
    assert fit.picture == (32, 36)
    assert fit.scale == 7
    assert [(s.field, s.stride, s.own_field, s.own_stride) for s in fit.stages] == [
        ((3, 3), (2, 2), 3 / 7, 2 / 7),
        ((7, 7), (4, 4), 1, 4 / 7),
        ((15, 15), (8, 8), 15 / 7, 8 / 7),
    ]
    assert fit.stages[2].share == 15 / 224
    assert "enlarged 7.0 times to 224; 0, 1, 2 see less than 3 of its own pixels" in fit.sentences[0]
    assert "one position of 2, the last map, sees 15 of 224 pixels (2 of 32 in the picture)" in fit.sentences[1]


def test_large_pictures_lose_detail() -> None:
    fit = fit_to_pictures(analyze_module(stack(6, 2)), [(2240, 3000)])
    assert any("reduced 10.0 times to 224: what is smaller than 10 pixels of it is gone" in s for s in fit.sentences)


def test_a_field_that_is_whole_too_early() -> None:
    fit = fit_to_pictures(analyze_module(stack(8, 1), (3, 5, 5)), [(5, 5)])
    assert [s.share for s in fit.stages] == [0.6, *[1.0] * 7]
    (sentence,) = fit.sentences
    assert sentence == (
        "from 1 on, one position sees the whole picture: the 6 stages above add depth but no further view; "
        "a larger --input would give them one"
    )


def test_pictures_that_fit_get_no_sentence() -> None:
    fit = fit_to_pictures(analyze_module(stack(4, 2), (3, 24, 24)), [(24, 24)])
    assert fit.sentences == ()
    assert fit_text(fit).splitlines()[-1].split() == ["3", "3×2×2", "31", "16", "31.0", "16.0", "100%"]


@pytest.mark.parametrize("sizes", [[], [(0, 5)]])
def test_sizes_are_checked(sizes: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="sizes must be pairs"):
        fit_to_pictures(analyze_module(stack(1, 1)), sizes)


class Sleeps(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.conv = seconds, nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta:
            time.sleep(self.seconds)
        return self.conv(x)


def test_times_by_stage() -> None:
    network = nn.ModuleDict({"slow": Sleeps(0.02), "fast": Sleeps(0.005)})
    whole = nn.Sequential(network["slow"], network["fast"], network["fast"]).train()
    analysis = analyze_module(whole, (3, 8, 8), name="sleepy")
    measured = measure(whole, analysis, {"0": whole[0], "1": whole[1]}, batch=2, repeats=3)
    slow, fast = measured.stages
    assert slow.seconds >= 0.02
    assert fast.seconds >= 0.01  # two calls of one module, 5 ms each
    assert 0.03 <= measured.fastest <= measured.seconds <= measured.slowest
    assert (slow.macs, fast.macs) == (2 * 9 * 64, 2 * 2 * 9 * 64)
    assert measured.pictures_per_second == 2 / measured.seconds
    assert whole.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in whole.modules())
    assert "a batch of 2 takes" in measured_text(measured)


def test_measuring_refuses() -> None:
    network = stack(1, 1)
    analysis = analyze_module(network)
    with pytest.raises(ValueError, match="at least 1, got 0 and 10"):
        measure(network, analysis, {}, batch=0)
    with pytest.raises(UsageError, match="needs weights"):
        measure(network.to(torch.device("meta")), analysis, {})
