"""Plain arrays of finite numbers, which need no checks, and the batches of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skorchlike import ParameterError
from skorchlike.data.arrays import input_batches
from skorchlike.data.plain_inputs import plain_batches, plain_tensor
from skorchlike.data.preparation import Preparation
from skorchlike.data.rows import Placement, Rows

CPU = torch.device("cpu")
X = np.random.default_rng(0).normal(size=(11, 3))


def fitted(form=None, schema=None, **attributes):
    form = {"": (3,)} if form is None else form
    inputs = SimpleNamespace(schema=schema)
    known = {"n_features_in_": 3, "_form_in_": form, **attributes}
    return SimpleNamespace(model_=SimpleNamespace(inputs_=inputs), **known)


def numbers_of(array):
    return array.detach().numpy() if isinstance(array, torch.Tensor) else array


def changed(value, row=4, column=1, dtype=np.float64):
    array = X.astype(dtype)
    array[row, column] = value
    return array


read_only = X.copy()
read_only.flags.writeable = False
PLAIN = {
    "float64": X,
    "float32": X.astype(np.float32),
    "one row": X[:1],
    "Fortran order": np.asfortranarray(X),
    "rows reversed": X[::-1],
    "columns reversed": X[:, ::-1],
    "every second row": X[::2],
    "read-only": read_only,
    "tensor": torch.from_numpy(X),
    "tensor with gradients": torch.from_numpy(X).requires_grad_(),
    "repeated row": torch.ones(1, 3).expand(5, 3),
}
NOT_PLAIN = {
    "list": X.tolist(),
    "None": None,
    "integers": X.astype(int),
    "float16": X.astype(np.float16),
    "longdouble": X.astype(np.longdouble),
    "other byte order": X.astype(">f8"),
    "complex": X + 0j,
    "objects": X.astype(object),
    "masked": np.ma.masked_array(X),
    "matrix": X.view(np.matrix),
    "one dimension": X[0],
    "three dimensions": X[:, :, None],
    "no rows": X[:0],
    "too wide": np.c_[X, X],
    "too narrow": X[:, :2],
    "NaN": changed(np.nan),
    "infinity": changed(np.inf),
    "both infinities": np.where(np.arange(3) == 1, changed(np.inf), changed(-np.inf, 5, 2)),
    "finite, but not its sum": np.full((4, 3), 3e38, np.float32),
    "Parameter": nn.Parameter(torch.from_numpy(X)),
    "integer tensor": torch.from_numpy(X).long(),
    "bfloat16": torch.from_numpy(X).bfloat16(),
    "sparse tensor": torch.from_numpy(X).to_sparse(),
    "tensor with NaN": torch.from_numpy(changed(np.nan)),
    "meta": torch.empty(4, 3, device="meta"),
    "tuple": (X,),
    "dict": {"X": X},
}


@pytest.mark.parametrize("given_X", PLAIN.values(), ids=PLAIN)
def test_plain_arrays_become_tensors_of_the_same_numbers(given_X):
    tensor = plain_tensor(fitted(), given_X)
    assert not tensor.requires_grad
    np.testing.assert_array_equal(tensor.numpy(), numbers_of(given_X), strict=True)


def test_a_plain_array_is_not_copied():
    assert plain_tensor(fitted(), X).data_ptr() == X.ctypes.data


@pytest.mark.parametrize("given_X", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_whatever_the_checks_may_refuse_or_change_is_not_plain(given_X):
    assert plain_tensor(fitted(), given_X) is None


@pytest.mark.parametrize(
    "estimator",
    [
        fitted(feature_names_in_=np.array(["a", "b", "c"])),
        fitted(schema=object()),
        fitted(n_features_in_=4),
        fitted(form={"[0]": (3,)}),
        fitted(form={"": (3, 2)}),
    ],
    ids=["names", "frame", "width", "several inputs", "dimensions"],
)
def test_what_the_fit_saw_otherwise_is_left_to_the_checks(estimator):
    assert plain_tensor(estimator, X) is None


def test_an_estimator_that_remembers_no_form_leaves_all_to_the_checks():
    estimator = fitted()
    del estimator._form_in_
    assert plain_tensor(estimator, X) is None


def test_images_may_have_another_size_as_the_checks_allow():
    estimator = fitted(form={"": (3, 8, 8)})
    assert plain_tensor(estimator, np.ones((2, 3, 8, 8))) is not None
    assert plain_tensor(estimator, np.ones((2, 3, 5, 5))) is not None
    assert plain_tensor(estimator, np.ones((2, 1, 8, 8))) is None
    assert plain_tensor(estimator, np.ones((2, 3, 8, 0))) is None


# ------------------------------------------------------------------------- batches

CENTER, SCALE = torch.tensor([0.1, -2.0, 3.0]).double(), torch.tensor([0.3, 7.0, torch.inf])


class Doubling:
    def transform(self, X):
        return np.c_[X * 2, X[:, :1]]


def preparations():
    flagged = torch.tensor([2])
    none = torch.tensor([], dtype=torch.int64)
    center, scale = CENTER, SCALE.double()
    return {
        "nothing": None,
        "filled": Preparation(center, none),
        "standard": Preparation(center, none, center, scale),
        "flagged": Preparation(center, flagged, center, scale),
        "robust": Preparation(center, none, center, scale, clip=True),
        "transformer": Preparation(center, none, transformer=Doubling()),
    }


@settings(max_examples=150, deadline=None)
@given(
    preparation=st.sampled_from(list(preparations())),
    kind=st.sampled_from(list(PLAIN)),
    size=st.integers(1, 13),
    dtype=st.sampled_from([None, torch.float32, torch.float64, torch.bfloat16, torch.int64]),
)
def test_plain_batches_are_the_general_ones_to_the_bit(preparation, kind, size, dtype):
    place, prepare = Placement(CPU, dtype, torch.float32), preparations()[preparation]
    given_X = PLAIN[kind]
    before = numbers_of(given_X).copy()
    expected = input_batches(Rows(given_X, place, prepare, resident=False), size)
    plain = plain_batches(plain_tensor(fitted(), given_X), size, place, prepare)
    for (batch, index, last), (general, numbers, is_last) in zip(plain, expected, strict=True):
        assert batch.dtype is general.dtype
        assert batch.stride() == general.stride()
        assert torch.equal(batch, general)
        assert torch.equal(index(), numbers)
        assert last is is_last
        batch.zero_()  # a copy: the data stay as they are
    np.testing.assert_array_equal(numbers_of(given_X), before)


def test_a_number_too_large_for_the_dtype_is_refused_in_its_batch():
    place = Placement(CPU, torch.float32, torch.float32)
    tensor = plain_tensor(fitted(), changed(1e200, row=9))
    batches = plain_batches(tensor, 4, place, None)
    assert len(next(batches)[0]) == len(next(batches)[0]) == 4
    with pytest.raises(ParameterError, match="X has values that are too large for"):
        next(batches)


def test_large_numbers_with_an_infinite_sum_are_cast():
    place = Placement(CPU, torch.float32, torch.float32)
    ((batch, _, _),) = plain_batches(torch.full((4, 3), 3e38).double(), 4, place, None)
    assert torch.equal(batch, torch.full((4, 3), 3e38))
