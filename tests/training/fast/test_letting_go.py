"""When a fit is over, nothing of it is held by a circle of references."""

import contextlib
import gc
import weakref

import numpy as np
import pytest

from skorchlike import Callback, NeuralNetClassifier
from skorchlike.data.arrays import ArrayBatches
from skorchlike.training.loop import Loop


class Passes(Callback):
    def on_batch_begin(self, ctx):
        pass


class Fails(Callback):
    def on_epoch_end(self, ctx):
        raise OSError


@pytest.fixture
def made(monkeypatch):
    """Weak references to the loops and data of all fits."""
    # what torch imports in a first fit keeps that one's frames for a while
    NeuralNetClassifier(max_epochs=1).fit(X, Y)
    found = []
    for cls in (Loop, ArrayBatches):

        def init(self, *args, old=cls.__init__, **kwargs):
            old(self, *args, **kwargs)
            found.append(weakref.ref(self))

        monkeypatch.setattr(cls, "__init__", init)
    gc.collect()
    gc.disable()
    yield found
    gc.enable()


X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = np.arange(40) % 2


@pytest.mark.parametrize("callbacks", [[], [Passes()]])
def test_a_fit_lets_go_of_its_loop_and_data(made, callbacks):
    net = NeuralNetClassifier(max_epochs=2, validation_fraction=0.2, callbacks=callbacks)
    net.fit(X, Y)
    assert len(made) == 3
    assert [ref() for ref in made] == [None] * 3


def test_so_does_one_that_fails(made):
    with contextlib.suppress(OSError):
        NeuralNetClassifier(max_epochs=2, callbacks=[Fails()]).fit(X, Y)
    assert len(made) == 2
    assert [ref() for ref in made] == [None] * 2
