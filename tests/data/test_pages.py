"""Memory for gathered rows: used again when nobody holds it, and never before."""

import copy
import pickle
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skorchlike.data import pages as pages_module
from skorchlike.data.arrays import ArrayBatches
from skorchlike.data.pages import KEPT, OWN_PAGES, Pages
from skorchlike.data.rows import Rows

N = OWN_PAGES // 4  # numbers of float32


def test_what_is_held_keeps_its_values():
    pages = Pages()
    held = [pages.empty((N,), torch.float32).fill_(i) for i in range(3 * KEPT)]
    assert len({tensor.data_ptr() for tensor in held}) == len(held)
    for i, tensor in enumerate(held):
        assert (tensor == i).all()


@pytest.mark.parametrize(
    "hold",
    [
        lambda tensor: tensor[5:6],
        lambda tensor: tensor.split(N // 3)[2],
        lambda tensor: tensor.numpy()[::2],
        lambda tensor: memoryview(tensor.numpy()),
        lambda tensor: tensor.view(2, -1).t().detach(),
        lambda tensor: torch.nn.Parameter(tensor),
        lambda tensor: tensor.untyped_storage(),
    ],
)
def test_a_view_holds_it_too(hold):
    pages = Pages()
    tensor = pages.empty((N,), torch.float32).fill_(1)
    place, view = tensor.data_ptr(), hold(tensor)
    del tensor
    assert pages.empty((N,), torch.float32).data_ptr() != place
    del view
    assert pages.empty((N,), torch.float32).data_ptr() == place


def test_what_the_graph_of_a_loss_keeps_is_not_written_to():
    pages = Pages()
    weight = torch.ones(N, requires_grad=True)
    loss = (pages.empty((N,), torch.float32).fill_(2) * weight).sum()
    pages.empty((N,), torch.float32).fill_(9)
    loss.backward()
    assert (weight.grad == 2).all()


@given(st.lists(st.tuples(st.integers(1, 4 * N), st.booleans()), max_size=12))
def test_no_two_tensors_ever_share_memory(wanted):
    pages, held = Pages(), []
    for number, (size, keeps) in enumerate(wanted):
        tensor = pages.empty((size,), torch.float32).fill_(number)
        if keeps:
            held.append((number, tensor))
        assert all((kept == i).all() for i, kept in held)
    assert len(pages.kept) <= KEPT


def test_few_pieces_are_kept():
    pages = Pages()
    held = [pages.empty((N,), torch.float32) for _ in range(10)]
    del held
    assert len(pages.kept) == KEPT


def test_copies_have_memory_of_their_own():
    pages = Pages()
    pages.empty((N,), torch.float32)
    for copied in (copy.deepcopy(pages), pickle.loads(pickle.dumps(pages))):
        assert not copied.kept


def test_a_batch_that_somebody_keeps_is_not_changed_by_later_passes():
    X = torch.arange(4 * N, dtype=torch.float32).view(-1, 4)
    batches = ArrayBatches(
        X, torch.arange(len(X)), None, len(X) // 4, generator=torch.Generator().manual_seed(0)
    )
    kept = [(X_, y_) for _ in range(4) for X_, y_, *_ in batches]
    for X_, y_ in kept:
        assert torch.equal(X_, X[y_])


def test_passes_over_rows_use_the_same_memory():
    batches = ArrayBatches(Rows(np.ones((N, 4), np.float32)), torch.zeros(N), None, N // 2)
    places = [{X.data_ptr() for X, *_ in batches} for _ in range(3)]
    assert places[0] == places[1] == places[2]


def test_threads_never_share_memory():
    """They are stopped wherever a piece is looked at, and another goes on there."""
    pages, wrong = Pages(), []

    def gather(number):
        for _ in range(400):
            tensor = pages.empty((N,), torch.float32).fill_(number)
            if not (tensor == number).all():
                wrong.append(number)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=gather, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_a_piece_that_is_being_given_is_given_to_no_other_thread(monkeypatch):
    pages = Pages()
    pages.empty((N,), torch.float32)
    given = []

    class Stopped:
        """Stands for `sys`: while a piece is looked at, another asks for one."""

        @staticmethod
        def getrefcount(piece):
            monkeypatch.setattr(pages_module, "sys", sys)
            given.append(pages.empty((N,), torch.float32))
            return sys.getrefcount(piece) - 2  # without this call's own

    monkeypatch.setattr(pages_module, "sys", Stopped)
    given.append(pages.empty((N,), torch.float32))
    assert len({tensor.data_ptr() for tensor in given}) == 2
