"""Eval mode for a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skorchlike.training.modes import InEvalMode


class Watched(nn.Dropout):
    """Counts what is written to it."""

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name != "written":
            vars(self)["written"] = vars(self).get("written", 0) + 1


def tree():
    shared = nn.Linear(2, 2)
    return nn.Sequential(
        shared, nn.Sequential(nn.Dropout(), nn.ModuleDict({"a": nn.BatchNorm1d(2)})), shared
    )


def modes(module):
    return [part.training for part in module.modules()]


def test_all_parts_are_in_eval_mode_and_then_as_before():
    module = tree()
    module[1][1].eval()
    before = modes(module)
    assert True in before
    assert False in before
    with InEvalMode(module):
        assert modes(module) == [False] * 6
    assert modes(module) == before


def test_a_deep_part_alone_in_training_mode_is_found():
    module = tree().eval()
    module[1][1]["a"].train()
    with InEvalMode(module):
        assert modes(module) == [False] * 6
    assert modes(module) == [False] * 5 + [True]


def test_parts_are_put_back_after_an_error():
    module = tree()
    with pytest.raises(OSError, match="x"), InEvalMode(module):
        raise OSError("x")
    assert all(modes(module))


def test_a_module_in_eval_mode_is_not_written_to():
    module = nn.Sequential(Watched())
    module.eval()
    before = module[0].written
    with InEvalMode(module):
        pass
    assert module[0].written == before


def test_a_part_that_is_none_is_no_matter():
    module = tree()
    module.register_module("nothing", None)
    with InEvalMode(module):
        assert modes(module) == [False] * 6
    assert all(modes(module))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_modules_have_modes_too():
    module = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Dropout(1.0)))
    with InEvalMode(module):
        assert module(torch.ones(1, 2)).any()
        assert not any(modes(module))
    assert all(modes(module))
