"""The table of any `nn.Module`, by running it once on tensors without data.

A dispatch mode sees every tensor operation; hooks on the modules say in which layer it happens. Weights and input stand
on PyTorch's meta device, so that nothing is computed and no weight is read, changed or copied. Which row feeds which is
known from the tensors themselves, so residual sums and concatenations are the real ones.

A module without children makes one row a call. What a module with children does itself (a sum, a concatenation,
attention's products) makes a row an operation. Views and copies make no row; nor does a layer that does nothing when
not training, unless it is a module of its own, such as a dropout.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from graft.analysis.readers.meta import run_without_data
from graft.analysis.readers.operations import RESHAPING, Window, base_name, kind_of, multiply_adds, window_of
from graft.analysis.readers.positions import Placed, moved, picture
from graft.analysis.receptive_field import Field
from graft.analysis.table import ELEMENT_BYTES, NOT_CALLED, PICTURE, Analysis, Layer, Shape, overwriting
from graft.errors import UsageError, shown

_MODULE_KINDS: Final = {
    "Dropout": "dropout",
    "Dropout2d": "dropout",
    "Flatten": "flatten",
    "LocalResponseNorm": "lrn",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "Hardtanh": "hardtanh",
    "LeakyReLU": "leaky relu",
    "PReLU": "prelu",
}


def analyze_module(module: nn.Module, input_shape: Shape = (3, 224, 224), *, name: str | None = None) -> Analysis:
    """A row for each layer of a network, as it runs in eval mode on one picture.

    module: left as it is: weights, modes and hooks. input_shape: (C, H, W). name: the class's when None.
    Raises UsageError when the network does not take that input, or decides by values what to compute.
    """
    recorder = _Recorder(module)
    image = torch.empty(1, *input_shape, device="meta")
    recorder.origins[id(image)] = _Origin((PICTURE,), frozenset(), picture(image.shape))
    recorder.alive.append(image)
    with _eval_mode(module), _standing_in(module, recorder), _hooks(module, recorder), _no_fused_attention():
        try:
            with torch.no_grad(), recorder:
                module(image)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            size = "×".join(str(side) for side in input_shape)
            reason = shown(str(error).strip().split("\n")[0])
            raise UsageError(
                f"cannot follow {name or type(module).__name__} on an input of {size}: {recorder.place()} says "
                f"{reason!r}; give the input that it takes, as C,H,W"
            ) from error
    return Analysis(name or type(module).__name__, tuple(input_shape), overwriting(recorder.table()))


@dataclass(frozen=True)
class _Origin:
    """Where a tensor comes from: rows, parameters that no row has claimed yet, and its receptive fields."""

    rows: tuple[int, ...]
    parameters: frozenset[str]
    placed: Placed | None


@dataclass
class _Row:
    """A layer while it is being written."""

    name: str
    kind: str
    inputs: list[int] = dataclasses.field(default_factory=list)
    input_shape: Shape = ()
    output_shape: Shape = ()
    windows: list[Window] = dataclasses.field(default_factory=list)
    kinds: list[str] = dataclasses.field(default_factory=list)
    pads: tuple[int, int] = (0, 0)
    new_memory: bool = False
    activation_bytes: int = 0
    parameters: int = 0
    macs: int = 0
    pool_operations: int = 0
    field: Field | None = None
    unknown: list[str] = dataclasses.field(default_factory=list)

    def layer(self) -> Layer:
        window = self.windows[0] if len(self.windows) == 1 else None
        is_conv = self.kind.endswith("conv")
        return Layer(
            name=self.name,
            kind=self.kind,
            inputs=tuple(self.inputs),
            input_shape=self.input_shape,
            output_shape=self.output_shape,
            kernel=window.kernel if window else None,
            stride=(round(window.stride[0]), round(window.stride[1])) if window else None,
            padding=(window.padding[0] + self.pads[0], window.padding[1] + self.pads[1]) if window else None,
            dilation=window.dilation if window else None,
            groups=window.groups if window and is_conv else None,
            activation_bytes=self.activation_bytes,
            parameters=self.parameters,
            macs=self.macs,
            pool_operations=self.pool_operations,
            field=self.field,
            uncounted=f"multiply-adds of {', '.join(dict.fromkeys(self.unknown))} are not known"
            if self.unknown
            else "",
        )


@dataclass
class _Frame:
    """A module while it runs."""

    path: str
    module: nn.Module
    row: int | None = None  # the one row of a module without children, once it has done something

    @property
    def leaf(self) -> bool:
        return next(self.module.children(), None) is None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes a row for whatever runs while it is active."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's compiler, which we do not use, takes a second to import

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[_Row] = []
        self.frames: list[_Frame] = []
        self.origins: dict[int, _Origin] = {}
        self.bases: dict[int, Tensor] = {}  # of views, by the view's id
        self.alive: list[object] = []  # so that no id is given twice
        self.unclaimed: dict[str, int] = {}
        self._names: Counter[str] = Counter()
        self._standins: dict[int, Tensor] = {}  # by the id of the tensor with data
        for path, parameter in module.named_parameters():
            self.unclaimed[path] = parameter.numel()
            self.origins[id(self.standin(parameter))] = _Origin((), frozenset([path]), None)

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in tree_leaves((args, named))):
            args, named = tree_map(self._on_meta, (args, named))
            if "device" in named:
                named["device"] = torch.device("meta")
        output = run_without_data(func, args, named)
        self._note(func, args, output)
        return output

    def standin(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape without data, always the same one."""
        if id(tensor) not in self._standins:
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
            self._standins[id(tensor)] = empty
            self.alive.extend((tensor, empty))
        return self._standins[id(tensor)]

    def _on_meta(self, value: Any) -> Any:
        """A tensor with data that meets one without is replaced."""
        return self.standin(value) if isinstance(value, Tensor) and not value.is_meta else value

    def enter(self, path: str, module: nn.Module) -> None:
        self.frames.append(_Frame(path, module))

    def leave(self, arguments: Sequence[Any], output: object) -> None:
        """Close a module: the row of one without children gets its output and its place in the graph."""
        frame = self.frames.pop()
        results = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if not frame.leaf or not results or isinstance(frame.module, nn.Identity):
            return
        given = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
        sources = [self.origins[id(t)] for t in given if id(t) in self.origins]
        if frame.row is None:
            rows = tuple(dict.fromkeys(row for source in sources for row in source.rows))
            if not rows:
                return
            frame.row = self._open(
                frame.path, _MODULE_KINDS.get(type(frame.module).__name__, _words(frame.module)), rows
            )
        row, result = self.rows[frame.row], results[0]
        row.input_shape = _without_batch(given[0]) if given else row.input_shape
        row.output_shape = _without_batch(result)
        row.activation_bytes = ELEMENT_BYTES * sum(t.numel() for t in results) if row.new_memory else 0
        row.kind = _kind_of_module(frame.module, row.kinds)
        for tensor in results:
            origin = self.origins.get(id(tensor), _Origin((), frozenset(), None))
            self.origins[id(tensor)] = _Origin((frame.row,), frozenset(), origin.placed)
            self.alive.append(tensor)
        placed = self.origins[id(result)].placed
        row.field = placed.field if placed else None

    def _note(self, func: OpOverload, args: tuple[Any, ...], output: object) -> None:
        """Follow one operation: who made its inputs, whom its output belongs to, what it cost."""
        results = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if not results:
            return
        self.alive.extend(results)
        tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        sources = [self.origins[id(t)] for t in tensors if id(t) in self.origins]
        rows = tuple(dict.fromkeys(row for source in sources for row in source.rows))
        pending = frozenset[str]().union(*(source.parameters for source in sources))
        placed = moved(func, args, [source.placed for source in sources if source.rows], results[0])
        if func.is_view or base_name(func) in RESHAPING:
            for result in results:
                self.origins[id(result)] = _Origin(rows, pending, placed)
                if func.is_view and tensors:
                    self.bases[id(result)] = self.bases.get(id(tensors[0]), tensors[0])
            return
        macs = multiply_adds(func, args, output)
        if not rows and not macs:
            for result in results:
                self.origins[id(result)] = _Origin((), pending, None)
            return
        at = self._row(func, args, rows, results[0], macs)
        row = self.rows[at]
        row.parameters += sum(self.unclaimed.pop(path, 0) for path in pending)
        if not (self.frames and self.frames[-1].leaf):
            row.input_shape = next((_without_batch(t) for t in tensors if _depends(self.origins.get(id(t)))), ())
            row.output_shape = _without_batch(results[0])
            row.activation_bytes = ELEMENT_BYTES * results[0].numel() if row.new_memory else 0
            row.field = placed.field if placed else None
        for result in results:
            self.origins[id(result)] = _Origin((at,), frozenset(), placed)
            base = self.bases.get(id(result))
            if func._schema.is_mutable and base is not None:  # a part was overwritten: the whole depends on both
                whole = self.origins.get(id(base), _Origin((), frozenset(), None))
                self.origins[id(base)] = _Origin(tuple(dict.fromkeys((*whole.rows, at))), whole.parameters, None)

    def _row(
        self, func: OpOverload, args: tuple[Any, ...], sources: tuple[int, ...], result: Tensor, macs: int | None
    ) -> int:
        """Add one operation to the row it belongs to, which is opened if need be; returns the row's index."""
        frame = self.frames[-1] if self.frames else None
        kind = kind_of(func, args)
        if (
            kind == "linear"
            and len([t for t in args if isinstance(t, Tensor) and _depends(self.origins.get(id(t)))]) > 1
        ):
            kind = "matmul"
        if frame is None or not frame.leaf:
            path = f"{frame.path}." if frame and frame.path else ""
            at = self._open(path + kind.replace(" ", "_"), kind, sources)
        elif frame.row is None:
            at = frame.row = self._open(frame.path or kind.replace(" ", "_"), kind, sources)
        else:
            at = frame.row
        row = self.rows[at]
        row.inputs.extend(s for s in sources if s != at and s not in row.inputs)
        row.kinds.append(kind)
        row.new_memory |= not func._schema.is_mutable
        row.macs += macs or 0
        if macs is None:
            row.unknown.append(func._schema.name.rstrip("_"))
        window = window_of(func, args, result)
        if window is not None:
            row.windows.append(window)
            if kind.endswith("pool"):
                row.pool_operations += result.numel() * window.kernel[0] * window.kernel[1]
        elif kind == "pad" and frame is not None and frame.leaf and result.ndim == 4 and len(args[1]) >= 4:
            row.pads = (args[1][2], args[1][0])
        return at

    def _open(self, name: str, kind: str, sources: tuple[int, ...]) -> int:
        self._names[name] += 1
        again = f"@{self._names[name]}" if self._names[name] > 1 else ""
        self.rows.append(_Row(name + again, kind, inputs=list(sources)))
        return len(self.rows) - 1

    def place(self) -> str:
        """The layer that is running, in words."""
        return f"layer {self.frames[-1].path!r}" if self.frames and self.frames[-1].path else "its forward"

    def table(self) -> tuple[Layer, ...]:
        """All rows, and one more for each module whose parameters nothing has read."""
        idle: Counter[str] = Counter()
        for path, size in self.unclaimed.items():
            idle[path.rpartition(".")[0] or path] += size
        unused = [Layer(name, NOT_CALLED, (), (), (), parameters=size) for name, size in idle.items()]
        return (*(row.layer() for row in self.rows), *unused)


def _depends(origin: _Origin | None) -> bool:
    return origin is not None and bool(origin.rows)


def _without_batch(tensor: Tensor) -> Shape:
    """(1, C, H, W) → (C, H, W); a tensor that has folded the batch into something else stays whole."""
    return tuple(tensor.shape[1:]) if tensor.ndim > 1 and tensor.shape[0] == 1 else tuple(tensor.shape)


def _kind_of_module(module: nn.Module, kinds: Sequence[str]) -> str:
    """The kind of a module without children, from its class or from the one operation that matters in it."""
    if type(module).__name__ in _MODULE_KINDS:
        return _MODULE_KINDS[type(module).__name__]
    heavy = [kind for kind in kinds if kind.endswith(("conv", "pool")) or kind in ("linear", "matmul")]
    if len(heavy) == 1:
        return heavy[0]
    return kinds[0] if len(kinds) == 1 and not heavy else _words(module)


def _words(module: nn.Module) -> str:
    """`AdaptiveAvgPool2d` → `adaptive avg pool2d`."""
    name = type(module).__name__
    starts = (" " if i and c.isupper() and not name[i - 1].isupper() else "" for i, c in enumerate(name))
    return "".join(start + c for start, c in zip(starts, name, strict=True)).lower()


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def _standing_in(module: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Put tensors without data where the parameters and buffers are, and these back afterwards."""
    before: list[tuple[dict[str, Any], str, Tensor]] = []
    for part in module.modules():
        owned: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
        before += [(tensors, name, t) for tensors in owned for name, t in tensors.items() if t is not None]
    try:
        for tensors, name, tensor in before:
            tensors[name] = recorder.standin(tensor)
        yield
    finally:
        for tensors, name, tensor in before:
            tensors[name] = tensor


@contextmanager
def _hooks(module: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Tell the recorder which module runs. A module registered under two names keeps the first."""

    def enter(path: str) -> Any:
        return lambda part, _: recorder.enter(path, part)

    handles = []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(enter(path), prepend=True))
        handles.append(part.register_forward_hook(lambda _, arguments, output: recorder.leave(arguments, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _no_fused_attention() -> Iterator[None]:
    """`nn.MultiheadAttention` step by step, so that its products can be counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
