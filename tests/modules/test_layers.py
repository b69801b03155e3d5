"""The table of layers, against numbers worked out by hand and against torch."""

from __future__ import annotations

import copy
import pickle

import pandas as pd
import pytest
import torch
from torch import nn

from skorchlike.modules import MLP
from skorchlike.modules.layers import LayerRecorder, shapes_of


def record(module, *inputs, depth=None, n_rows=None):
    with LayerRecorder(module) as recorder:
        module(*inputs)
    return recorder.table(depth, n_rows)


def columns(table, *names):
    return [tuple(getattr(layer, name) for name in names) for layer in table.layers]


# ------------------------------------------------------------------------- numbers


def test_linear_layers():
    table = record(MLP(5, 3, hidden_layer_sizes=(7,)), torch.zeros(4, 5))
    assert columns(table, "name", "layer", "output_shape", "parameters", "multiply_adds") == [
        ("0", "Linear", (4, 7), 5 * 7 + 7, 4 * 5 * 7),
        ("1", "ReLU", (4, 7), 0, 0),
        ("2", "Linear", (4, 3), 7 * 3 + 3, 4 * 7 * 3),
    ]
    assert (table.parameters, table.multiply_adds) == (66, 224)
    assert table.size_mb == 66 * 4 / 1e6


CONVOLUTIONS = [
    # module, input, parameters, multiply-adds of one image: outputs times weights of each
    (nn.Conv2d(3, 8, 5), (3, 12, 10), 8 * 3 * 25 + 8, 8 * 8 * 6 * 3 * 25),
    (nn.Conv2d(4, 8, 3, padding=1, stride=2), (4, 8, 8), 8 * 4 * 9 + 8, 8 * 4 * 4 * 4 * 9),
    (nn.Conv2d(4, 8, 3, groups=2, bias=False), (4, 6, 6), 8 * 2 * 9, 8 * 4 * 4 * 2 * 9),
    (nn.Conv1d(2, 6, 3), (2, 9), 6 * 2 * 3 + 6, 6 * 7 * 2 * 3),
    (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), 3 * 2 * 8 + 3, 3 * 27 * 2 * 8),
]


@pytest.mark.parametrize(("module", "shape", "parameters", "multiply_adds"), CONVOLUTIONS)
def test_convolutions(module, shape, parameters, multiply_adds):
    table = record(module, torch.zeros(2, *shape))
    assert columns(table, "name", "parameters", "multiply_adds") == [
        ("", parameters, 2 * multiply_adds)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("cls", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers(cls, gates, dtype):
    module = cls(5, 7, num_layers=2, bidirectional=True, batch_first=True).to(dtype)
    table = record(module, torch.zeros(3, 4, 5, dtype=dtype))
    first, second = gates * 7 * (5 + 7), gates * 7 * (14 + 7)
    biases = 2 * gates * 7
    assert table.parameters == 2 * (first + second + 2 * biases)
    assert table.multiply_adds == 3 * 4 * 2 * (first + second)


@pytest.mark.parametrize("training", [True, False])
def test_attention(training):
    module = nn.MultiheadAttention(8, 2, batch_first=True).train(training)
    x = torch.zeros(3, 5, 8)
    table = record(module, x, x, x)
    projections = 3 * 5 * 8 * 8 * 4  # of query, key, value and output
    attention = 3 * 2 * (5 * 5 * 4) * 2  # scores and mixtures, in two heads of four
    assert table.multiply_adds == projections + attention
    assert table.parameters == sum(p.numel() for p in module.parameters())


def test_fused_attention_counts_as_that_by_hand():
    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    table = record(Attention(), torch.zeros(2, 3, 5, 4))
    assert table.multiply_adds == 2 * 3 * 2 * (5 * 5 * 4)


# ------------------------------------------------------------------- which layers


class Tied(nn.Module):
    """Shared weights, a layer called twice, one never, work of its own, a tuple returned."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 4, bias=False)
        self.decoder = nn.Linear(4, 6, bias=False)
        self.decoder.weight = nn.Parameter(torch.zeros(6, 4))
        self.again = nn.Linear(6, 4, bias=False)
        self.again.weight = self.encoder.weight
        self.never = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(4, 4))
        self.block = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Identity())

    def forward(self, x):
        code = self.encoder(self.decoder(self.encoder(x)))
        code = self.again(self.decoder(code)) @ self.scale
        return self.block(code), {"code": code, "n": 3}


def test_shared_repeated_unused_and_own_work():
    table = record(Tied(), torch.zeros(2, 6))
    assert columns(table, "name", "calls", "parameters", "multiply_adds") == [
        ("", 1, 16, 2 * 16),
        ("encoder", 2, 24, 2 * 2 * 24),
        ("decoder", 2, 24, 2 * 2 * 24),
        ("again", 1, 0, 2 * 24),
        ("never", 0, 6, 0),
        ("block.0.0", 1, 20, 2 * 16),
        ("block.0.1", 1, 0, 0),
        ("block.1", 1, 0, 0),
    ]
    assert table.parameters == sum(p.numel() for p in Tied().parameters())
    assert table.layers[0].output_shape == [(2, 4), {"code": (2, 4), "n": None}]
    assert table.layers[4].output_shape is None


def test_a_layer_under_two_names_is_one():
    layer = nn.Linear(3, 3)
    table = record(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(2, 3))
    assert columns(table, "name", "calls", "parameters", "multiply_adds") == [
        ("0", 2, 12, 36),
        ("1", 1, 0, 0),
    ]


@pytest.mark.parametrize("depth", [None, 0, 1, 2, 3, 9])
def test_depth_adds_up_what_lies_further_down(depth):
    table, whole = record(Tied(), torch.zeros(2, 6), depth=depth), record(Tied(), torch.zeros(2, 6))
    names = [layer.name for layer in table.layers]
    deepest = max((name.count(".") + 1 for name in names if name), default=0)
    assert deepest == min(3, 3 if depth is None else depth)
    assert len(set(names)) == len(names)
    for total in ("parameters", "trainable", "multiply_adds", "n_bytes"):
        assert getattr(table, total) == getattr(whole, total)
    if depth == 1:
        block = table.layers[-1]
        assert (block.name, block.layer, block.output_shape) == ("block", "Sequential", (2, 4))
        assert (block.calls, block.parameters, block.multiply_adds) == (1, 20, 32)


def test_frozen_parameters_and_buffers():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    module[0].weight.requires_grad_(False)
    table = record(module, torch.zeros(2, 3))
    assert columns(table, "parameters", "trainable") == [(16, 4), (8, 8)]
    assert (table.parameters, table.trainable) == (24, 12)
    assert table.n_bytes == 24 * 4 + 2 * 4 * 4 + 8  # running mean and variance, and a count


def test_a_module_without_parameters():
    table = record(nn.Identity(), torch.zeros(2, 3))
    assert columns(table, "name", "layer", "output_shape") == [("", "Identity", (2, 3))]
    assert (table.parameters, table.multiply_adds, table.n_bytes) == (0, 0, 0)


def test_a_lazy_module_has_its_sizes_afterwards():
    table = record(nn.Sequential(nn.LazyLinear(4), nn.LazyLinear(2)), torch.zeros(3, 5))
    assert columns(table, "layer", "parameters") == [("Linear", 24), ("Linear", 10)]


def test_a_call_that_fails_within_another_costs_no_number():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            self.inner(x)
            raise OSError

    class Catches(nn.Module):
        def __init__(self):
            super().__init__()
            self.broken, self.other = Broken(), nn.Linear(3, 2)

        def forward(self, x):
            try:
                return self.broken(x)
            except OSError:
                return self.other(x)

    table = record(nn.Sequential(Catches(), nn.Linear(2, 2)), torch.zeros(4, 3))
    found = {layer.name: (layer.calls, layer.multiply_adds) for layer in table.layers}
    assert found["0.broken.inner"] == (1, 4 * 9)
    assert found["0.other"] == (1, 4 * 6)
    assert found["1"] == (1, 4 * 4)


def test_shapes_keep_their_structure():
    tensor = torch.zeros(2, 3)
    assert shapes_of((tensor, [tensor, None], {"a": tensor.T})) == [
        (2, 3),
        [(2, 3), None],
        {"a": (3, 2)},
    ]


# ---------------------------------------------------------------------- watching


def test_the_pass_is_the_same_bits_and_no_hook_is_left():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.TransformerEncoderLayer(6, 2))
    x = torch.randn(3, 4)

    def results():
        torch.manual_seed(1)
        output = module(x)
        gradients = torch.autograd.grad(output.square().sum(), [*module.parameters()])
        return output, *gradients, torch.rand(1)

    plain = results()
    with LayerRecorder(module):
        watched = results()
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_no_hook_is_left_after_an_error():
    module = nn.Sequential(nn.Linear(4, 6))
    with pytest.raises(RuntimeError), LayerRecorder(module):
        module(torch.zeros(3, 5))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert torch.equal(module(torch.zeros(3, 4)), module[0](torch.zeros(3, 4)))


# ----------------------------------------------------------------------- the table


TEXT = """\
name  layer    output shape          parameters  multiply-adds
--------------------------------------------------------------
0     Linear   (8, 50)       50,050 (50 frozen)        400,000
1     Flatten  (8, 50)                        0              0
2     Linear   (8, 2)              102 (frozen)            800
--------------------------------------------------------------
Parameters: 50,152, of which trainable: 50,000
Multiply-adds: 400,800 for 8 rows
Size of parameters and buffers: 0.201 MB"""


def test_the_text_is_aligned_and_has_the_totals():
    module = nn.Sequential(nn.Linear(1000, 50), nn.Flatten(), nn.Linear(50, 2))
    module[2].requires_grad_(False)
    module[0].bias.requires_grad_(False)
    assert repr(record(module, torch.zeros(8, 1000), n_rows=8)) == TEXT


def test_calls_are_shown_where_a_layer_has_several():
    lines = repr(record(Tied(), torch.zeros(2, 6))).splitlines()
    head = "name layer output shape calls parameters multiply-adds"
    assert " ".join(lines[0].split()) == head
    assert lines[2].startswith("(module)")
    assert any("never" in line and "not called" in line for line in lines)
    assert "calls" not in repr(record(nn.Linear(2, 2), torch.zeros(1, 2)))


def test_the_frame_has_a_row_a_layer():
    table = record(Tied(), torch.zeros(2, 6))
    frame = table.table
    assert isinstance(frame, pd.DataFrame)
    assert frame["name"].tolist() == [layer.name for layer in table.layers]
    assert frame["multiply_adds"].sum() == table.multiply_adds
    assert list(frame.columns) == list(vars(table.layers[0]))


def test_the_html_has_every_cell_and_is_escaped():
    class Odd(nn.Linear):
        pass

    Odd.__name__ = "<b>"
    table = record(nn.Sequential(Odd(2, 3)), torch.zeros(1, 2))
    html = table._repr_html_()
    assert "<th>multiply-adds</th>" in html
    assert "<td>&lt;b&gt;</td><td>(1, 3)</td><td>9</td><td>6</td>" in html
    assert html.count("<tr>") == 2


def test_it_can_be_compared_copied_and_pickled():
    table = record(Tied(), torch.zeros(2, 6))
    for again in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert again == table
        assert repr(again) == repr(table)
    assert record(Tied(), torch.zeros(3, 6)) != table
