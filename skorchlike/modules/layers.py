"""A table of the layers of a module, recorded in one forward pass."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Layer:
    """What is known of one layer.

    Attributes
    ----------
    name : str
        Its name in the module, such as ``"encoder.0"``; empty for the module itself.
    layer : str
        Its class.
    output_shape : tuple, list, dict or None
        Shape of what it returned last, in the same structure; None if it was not called.
    calls : int
        How often it was called.
    parameters : int
        Its own parameters, those of layers beneath it left out; of shared ones those that no
        earlier layer has.
    trainable : int
        Those of them that are trained.
    multiply_adds : int
        Multiplications with an addition in all its calls, those of layers beneath it left out.
    """

    name: str
    layer: str
    output_shape: Any
    calls: int
    parameters: int
    trainable: int
    multiply_adds: int


@dataclass(repr=False)
class LayerTable:
    """The layers of a module: shapes, parameters, multiply-adds. Made by `LayerRecorder`.

    Attributes
    ----------
    layers : list of Layer
        Those that have parameters, compute something themselves, or hold no other layer; in
        the order of the module. Every column adds up to the totals.
    n_rows : int or None
        Rows of the batch that was passed through, to which the multiply-adds belong.
    n_bytes : int
        Size of all parameters and buffers.
    """

    layers: list[Layer]
    n_rows: int | None
    n_bytes: int

    @property
    def parameters(self) -> int:
        """The number of all parameters, shared ones counted once."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def trainable(self) -> int:
        """The number of parameters that are trained."""
        return sum(layer.trainable for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of one forward pass of the batch."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def size_mb(self) -> float:
        """The size of all parameters and buffers in megabytes, millions of bytes."""
        return self.n_bytes / 1e6

    @property
    def table(self) -> pd.DataFrame:
        """One row a layer, the columns named as the attributes of `Layer`."""
        import pandas as pd

        rows = [tuple(vars(layer).values()) for layer in self.layers]
        return pd.DataFrame(rows, columns=list(Layer.__annotations__))

    def __repr__(self) -> str:
        """Return the table and the totals as aligned text."""
        head, *rows = self._cells()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = []
        for cells in (head, *rows):
            padded = [
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            lines.append("  ".join(padded).rstrip())
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], rule, *self._totals()])

    def _repr_html_(self) -> str:
        from html import escape

        head, *rows = self._cells()
        header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        totals = "<br>".join(map(escape, self._totals()))
        return (
            f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table><p>{totals}</p>"
        )

    def _cells(self) -> list[list[str]]:
        """Return head and rows as text; columns that would say nothing are left out."""
        calls = any(layer.calls > 1 for layer in self.layers)
        head = ["name", "layer", "output shape", *["calls"] * calls, "parameters", "multiply-adds"]
        cells = [head]
        for layer in self.layers:
            shape = "not called" if not layer.calls else str(layer.output_shape)
            parameters = f"{layer.parameters:,}"
            if layer.trainable < layer.parameters:
                frozen = layer.parameters - layer.trainable
                parameters += " (frozen)" if not layer.trainable else f" ({frozen:,} frozen)"
            counts = [*[str(layer.calls)] * calls, parameters, f"{layer.multiply_adds:,}"]
            cells.append([layer.name or "(module)", layer.layer, shape, *counts])
        return cells

    def _totals(self) -> list[str]:
        rows = "" if self.n_rows is None else f" for {self.n_rows:,} rows"
        return [
            f"Parameters: {self.parameters:,}, of which trainable: {self.trainable:,}",
            f"Multiply-adds: {self.multiply_adds:,}{rows}",
            f"Size of parameters and buffers: {self.size_mb:,.3f} MB",
        ]


class LayerRecorder:
    """Record what the layers of a module do, until it is closed.

    Hooks on the layers take shapes and calls; ``torch.utils.flop_counter`` counts what
    matrix products, convolutions and attention compute. The pass itself stays the same bits.

    Parameters
    ----------
    module : torch.nn.Module
        Whose layers.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.layers import LayerRecorder
    >>> module = torch.nn.Linear(4, 3)
    >>> with LayerRecorder(module) as recorder:
    ...     _ = module(torch.zeros(2, 4))
    >>> recorder.table(n_rows=2).multiply_adds
    24
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._shapes: dict[nn.Module, Any] = {}
        self._calls: dict[nn.Module, int] = {}
        self._computed: dict[nn.Module, int] = {}
        self._under_way: list[_Call] = []
        self._open = contextlib.ExitStack()

    def __enter__(self) -> LayerRecorder:
        """Set the hooks and begin to count."""
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False, custom_mapping=_further_operations())
        with contextlib.ExitStack() as opening:
            self._counter = opening.enter_context(counter)
            for part in self.module.modules():
                for hook in (
                    part.register_forward_pre_hook(self._begin_call, prepend=True),
                    part.register_forward_hook(self._end_call),
                ):
                    opening.callback(hook.remove)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove the hooks and stop to count."""
        self._open.close()

    def table(self, depth: int | None = None, n_rows: int | None = None) -> LayerTable:
        """Return what was recorded.

        Parameters
        ----------
        depth : int or None, default=None
            Layers further down are added up in the one that holds them: 1 are the module's
            children. None adds up nothing.
        n_rows : int or None, default=None
            Rows of the batch.
        """
        layers: dict[str, Layer] = {}
        parts = dict(self.module.named_modules())
        seen: set[nn.Parameter] = set()
        for name, part in parts.items():
            own = [p for p in part.parameters(recurse=False) if p not in seen]
            seen.update(own)
            computed = self._computed.get(part, 0) // 2  # a multiply-add is two operations
            if not own and not computed and any(part.children()):
                continue
            head = name if depth is None else ".".join(name.split(".")[:depth])
            if head not in layers:
                layers[head] = self._layer(head, parts[head])
            layers[head].parameters += sum(p.numel() for p in own)
            layers[head].trainable += sum(p.numel() for p in own if p.requires_grad)
            layers[head].multiply_adds += computed
        n_bytes = sum(p.nbytes for p in (*self.module.parameters(), *self.module.buffers()))
        return LayerTable(list(layers.values()), n_rows, n_bytes)

    def _layer(self, name: str, part: nn.Module) -> Layer:
        shape, calls = self._shapes.get(part), self._calls.get(part, 0)
        return Layer(name, type(part).__name__, shape, calls, 0, 0, 0)

    def _begin_call(self, part: nn.Module, args: Any) -> None:
        self._under_way.append(_Call(part, self._counter.get_total_flops()))

    def _end_call(self, part: nn.Module, args: Any, output: Any) -> None:
        while (call := self._under_way.pop()).part is not part:
            pass  # it failed, and its caller caught the error
        counted = self._counter.get_total_flops() - call.began
        self._computed[part] = self._computed.get(part, 0) + counted - call.within
        if self._under_way:
            self._under_way[-1].within += counted
        self._calls[part] = self._calls.get(part, 0) + 1
        self._shapes[part] = shapes_of(output)


@dataclass
class _Call:
    """A call under way: what was counted before it, and in calls within it."""

    part: nn.Module
    began: int
    within: int = 0


def _further_operations() -> dict[Any, Any]:
    """Return how to count operations of the CPU and of recurrent layers that torch leaves out."""
    from torch.utils.flop_counter import sdpa_flop_count

    aten = torch.ops.aten

    def of_attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def of_layers(inputs: Any, weights: Any, *args: Any, **kwargs: Any) -> int:
        return 2 * math.prod(inputs[:-1]) * sum(math.prod(w) for w in weights if len(w) == 2)

    def of_one_layer(inputs: Any, of_input: Any, of_state: Any, *args: Any, **kwargs: Any) -> int:
        return of_layers(inputs, [of_input, of_state])

    return {
        aten._scaled_dot_product_flash_attention_for_cpu: of_attention,
        aten.mkldnn_rnn_layer: of_one_layer,
        aten._cudnn_rnn: of_layers,
        aten.miopen_rnn: of_layers,
    }


def shapes_of(output: Any) -> Any:
    """Return the shapes of tensors, in lists and dicts as they are; None for other things."""
    if isinstance(output, torch.Tensor):
        return tuple(output.shape)
    if isinstance(output, Mapping):
        return {key: shapes_of(value) for key, value in output.items()}
    if isinstance(output, (list, tuple)):
        return [shapes_of(value) for value in output]
    return None
