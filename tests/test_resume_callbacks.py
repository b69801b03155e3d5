"""With every built-in callback an interrupted fit goes on to the bits of one that was not."""

import csv
import json
import zlib

import numpy as np
import pytest
from callbacks.resume_cases import BATCHES, EPOCHS, MORE_NAMES, NAMES, case, outcome
from sklearn.base import clone

from skorchlike import Callback
from skorchlike.model.codec import decode, encode
from skorchlike.model.files import pack, unpack
from skorchlike.model.trust import Trusted

pytestmark = [
    pytest.mark.filterwarnings("ignore:EMA:UserWarning"),
    pytest.mark.filterwarnings("ignore:MixedPrecision left out:UserWarning"),
    pytest.mark.filterwarnings("ignore:LRFinder has n_steps:UserWarning"),
    pytest.mark.filterwarnings("ignore:Metrics keeps at most:UserWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]


class Stops(Callback):
    """Writes the fit down after a training batch, or an epoch, and goes on or breaks it off."""

    order = float("inf")
    passive = True

    def __init__(self, written=None, batch=None, epoch=None, more=0, error=InterruptedError):
        self.written = written
        self.batch = batch
        self.epoch = epoch
        self.more = more
        self.error = error

    def on_batch_exit(self, ctx):
        if not ctx.training:
            return
        if ctx.resumable and self.batch == ctx.global_step:
            self.write(ctx)
        if self.batch is not None and ctx.global_step == self.batch + self.more:
            raise self.error

    def on_epoch_end(self, ctx):
        if self.epoch == ctx.epoch:
            self.write(ctx)
            self.batch = ctx.global_step
            if not self.more:
                raise self.error

    def write(self, ctx):
        plain, tensors = encode(ctx.snapshot(copied=False), "")
        self.written.append(pack(plain, tensors, "checkpoint"))


class Written(list):
    """What clones share."""

    def __deepcopy__(self, memo):
        return self


def whole(name, folder):
    folder.mkdir()
    net, X, y = case(name, folder)
    return net.fit(X, y, callbacks={"stops": Stops()})


def resumed(name, folder, **where):
    """Return a fit that was broken off and goes on in an estimator of its own."""
    folder.mkdir(exist_ok=True)
    written = Written()
    net, X, y = case(name, folder)
    error = where.get("error", InterruptedError)
    with pytest.raises(error):
        clone(net).fit(X, y, callbacks={"stops": Stops(written, **where)})
    plain, tensors = unpack(written[0], "checkpoint")
    snapshot = decode(plain, tensors, Trusted(["callbacks", __name__]))
    net = case(name, folder)[0]
    return net.fit(X, y, callbacks={"stops": Stops()}, resume=snapshot)


def random_places(name):
    """Return a batch in an epoch's middle, the last one of an epoch, and an epoch's end."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    epoch = int(rng.integers(EPOCHS))
    inside = epoch * BATCHES + int(rng.integers(1, BATCHES))
    last = BATCHES * int(rng.integers(1, EPOCHS + 1))
    return [{"batch": inside}, {"batch": last}, {"epoch": int(rng.integers(1, EPOCHS + 1))}]


def assert_same(expected, got, where):
    for part, value in expected.items():
        assert got[part] == value, f"{part} differs where the fit was broken off at {where}"


SLOW = ("mlflow",)


@pytest.mark.parametrize("name", [*NAMES, *MORE_NAMES])
def test_a_fit_with_a_callback_goes_on_to_the_bit(name, tmp_path):
    expected = outcome(whole(name, tmp_path / "whole"), tmp_path / "whole")
    for number, where in enumerate(random_places(name)[: 1 if name in SLOW else 3]):
        folder = tmp_path / str(number)
        assert_same(expected, outcome(resumed(name, folder, **where), folder), where)


@pytest.mark.parametrize("place", range(1, EPOCHS * BATCHES + 1))
def test_a_fit_with_many_callbacks_goes_on_from_any_batch(place, tmp_path):
    expected = outcome(whole("many", tmp_path / "whole"), tmp_path / "whole")
    got = outcome(resumed("many", tmp_path / "cut", batch=place), tmp_path / "cut")
    assert_same(expected, got, place)
