"""Fits on loaders and samplers of the user's, broken off and resumed."""

import numpy as np
import pytest
import torch
from doubles import same_weights, weights_of
from sklearn.datasets import make_classification
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from skorchlike import Callback, Checkpoint, NeuralNetClassifier
from skorchlike.data.sampling import generators_of

X, Y = make_classification(120, 6, random_state=0)
X = X.astype(np.float32)


class Items(Dataset):
    """The rows, one by one."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return torch.from_numpy(X[i]), int(Y[i])


class Stop(Callback):
    """Break a fit off, as a killed process does."""

    order = float("inf")
    passive = True

    def __init__(self, epoch, step):
        self.epoch = epoch
        self.step = step

    def on_batch_exit(self, ctx):
        if ctx.training and (ctx.epoch, ctx.step) == (self.epoch, self.step):
            raise InterruptedError


class Rows(Callback):
    """Note the rows of each batch."""

    passive = True
    seen = ()

    def on_batch_begin(self, ctx):
        if ctx.training:
            Rows.seen.append((ctx.epoch, ctx.step, ctx.X.cpu().numpy().tobytes()))


class Halves(Sampler):
    """A sampler that passes on the rows of another one."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __iter__(self):
        yield from list(self.sampler)[::2]

    def __len__(self):
        return len(self.sampler) // 2


def generator():
    return torch.Generator().manual_seed(5)


def random_batches():
    return BatchSampler(RandomSampler(Items(), generator=generator()), 25, drop_last=False)


def nested_batches():
    inner = WeightedRandomSampler([1.0] * len(X), len(X), generator=generator())
    return BatchSampler(Halves(inner), 10, drop_last=True)


def fit(folder, make_batches, ready, stop=None, resume=None):
    """Fit, and return the estimator and the rows that it saw."""
    options = {} if ready else {"train_loader__batch_sampler": make_batches()}
    data = DataLoader(Items(), batch_sampler=make_batches()) if ready else Items()
    net = NeuralNetClassifier(
        max_epochs=4,
        random_state=0,
        callbacks=[Rows(), Checkpoint(folder, unit="batch")],
        **options,
    )
    Rows.seen = []
    if stop is not None:
        with pytest.raises(InterruptedError):
            net.fit(data, callbacks=[Stop(*stop)])
    else:
        net.fit(data, resume=resume)
    return net, Rows.seen


@pytest.mark.parametrize("ready", [False, True], ids=["option", "loader"])
@pytest.mark.parametrize("make_batches", [random_batches, nested_batches])
def test_a_sampler_within_a_batch_sampler_goes_on_with_its_numbers(tmp_path, make_batches, ready):
    whole, rows = fit(tmp_path / "whole", make_batches, ready)
    _, before = fit(tmp_path / "cut", make_batches, ready, stop=(3, 2))
    resumed, after = fit(tmp_path / "cut", make_batches, ready, resume=True)
    assert before[-1][:2] == (3, 2)
    assert before + after == rows
    assert len({row for *_, row in rows}) == len(rows)  # each epoch had an order of its own
    assert same_weights(weights_of(whole.model_.module_), weights_of(resumed.model_.module_))


def test_a_generator_is_found_once_wherever_it_is():
    own, shared = generator(), generator()
    loader = DataLoader(Items(), shuffle=True, generator=shared)
    assert generators_of(loader, {}, own) == {"fit": own, "loader": shared}
    subset = SubsetRandomSampler([0, 1], generator=shared)
    options = {"sampler": subset}
    assert generators_of(Items(), options, None) == {"sampler": shared}
    options = {"batch_sampler": BatchSampler(Halves(subset), 1, drop_last=False)}
    assert generators_of(Items(), options, own) == {
        "fit": own,
        "batch_sampler.sampler.sampler": shared,
    }


def test_samplers_that_hold_themselves_end_the_search():
    sampler = Halves(None)
    sampler.sampler = sampler
    assert generators_of(Items(), {"sampler": sampler}, None) == {}
