"""Estimators and weights in files that hold no code: `save`, `load`, and weights alone."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skorchlike.exceptions import DamagedFileError, FormatError, ParameterError
from skorchlike.model.codec import Encoder, decode, encode, parts_of
from skorchlike.model.devices import on_this_machine
from skorchlike.model.files import (
    FORMAT,
    KINDS,
    damaged,
    packed,
    read_whole,
    unpack,
    write_atomically,
)
from skorchlike.model.guards import check_estimator, plain_dict
from skorchlike.model.tensor_files import read_metadata, read_tensors
from skorchlike.model.trust import Trusted

MARKS = {"kind", "skorchlike", "content", "sha256"}
"""What the header of a file of ours has beside its format; one of them may be damaged."""

NAMES = {
    "model_.module_": "module",
    "model_.criterion_": "criterion",
    "model_.optimizer_": "optimizer",
    "": "estimator",
}
"""What tensors are called in a file, by their places in an estimator."""

MODULE = "module."
MOST_TOLD = 8

PathLike = str | os.PathLike[str]


def save(estimator: Any, path: PathLike) -> None:
    """Write an estimator to a file, without pickle: tensors as safetensors, the rest as JSON.

    All is kept: parameters, callbacks, what the fit has learned, and what a continued fit
    needs. The file is there complete, or not at all.

    Parameters
    ----------
    estimator : NeuralNetClassifier, NeuralNetRegressor or other scikit-learn estimator
        Fitted or not; a pipeline too.
    path : path
        The file; one that exists is replaced. ``.safetensors`` suits as a suffix.

    Raises
    ------
    FormatError
        If something cannot be written, such as a lambda; it is named. Then no file has been
        touched.
    OSError
        If the file cannot be written; what was there before is there still.

    See Also
    --------
    load : Read it.
    save_weights : Only the module's tensors.

    Notes
    -----
    Classes and functions are kept by their import paths, as by pickle. The tensors of the
    module are called ``module.`` and their name in its ``state_dict()``, so that any reader
    of safetensors finds them.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier
    >>> from skorchlike.model.persistence import load, save
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(max_epochs=3, random_state=0).fit(X, y)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> save(net, path)
    >>> bool((load(path).predict_proba(X) == net.predict_proba(X)).all())
    True
    """
    _check_estimator(estimator)
    encoder = Encoder(NAMES)
    try:
        plain = {"estimator": encoder.finish(encoder(estimator, ""))}
    except FormatError as error:
        # parameters said as component__name are kept under this attribute
        told = str(error).removeprefix("_routed.").replace("._routed.", ".")
        raise FormatError(f"The {type(estimator).__name__} cannot be saved. {told}") from None
    write_atomically(path, packed(plain, encoder.tensors, "estimator"))


def load(path: PathLike, *, trusted: Any = ()) -> Any:
    """Read an estimator that `save` has written.

    No code comes from the file: it names classes and functions by import path, and only
    those that are trusted are imported. Nothing of it is imported or made if one is not.

    Parameters
    ----------
    path : path
        The file.
    trusted : list of type, function, module or str, or dict, default=()
        What may be named beside this package, ``torch.nn``, ``torch.optim`` and kinds of
        data: classes and functions, their dotted names, or names of packages. Everything in
        a package that is listed is trusted. A dict gives for a name in the file what it
        stands for now, where something has moved: ``{"old_package.Own": Own}``.

    Returns
    -------
    estimator
        It predicts the same bits as the one that was saved, and a continued fit goes on in
        the same way.

    Warns
    -----
    UserWarning
        If the model was on a device that this machine does not have: it is on the CPU then.

    Raises
    ------
    UntrustedError
        If the file names something that is not trusted.
    DamagedFileError
        If it is no file of this package, or is damaged.
    FormatError
        If it is of another version or kind, or names what does not exist any more.
    OSError
        If it cannot be read.

    See Also
    --------
    save : Write it.

    Notes
    -----
    Reading runs nothing that a stranger wrote; using what was read does what its parameters
    say: a `CSVLogger` writes to its path in the next fit. Look at ``get_params()`` before you
    go on with a fit from a source that you do not know.
    """
    trust = trusted if isinstance(trusted, Trusted) else Trusted(trusted)
    plain, tensors = unpack(Path(path), "estimator")
    try:
        estimator = decode(plain["estimator"], tensors, trust)
    except FormatError as error:
        raise type(error)(f"{path}: {error}") from error.__cause__
    except (LookupError, TypeError) as error:
        raise DamagedFileError(f"{path} cannot be read: it holds no estimator.") from error
    try:
        check_estimator(estimator)
    except DamagedFileError as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from error.__cause__
    model = vars(estimator).get("model_")
    if hasattr(model, "place_"):
        model.place_ = on_this_machine(model.place_)
    return estimator


def save_weights(estimator: Any, path: PathLike) -> None:
    """Write the trained module's tensors to a file, under their names in its ``state_dict()``.

    Parameters
    ----------
    estimator : NeuralNetClassifier or NeuralNetRegressor
        Fitted.
    path : path
        The file; one that exists is replaced.

    Raises
    ------
    NotFittedError
        If there is no model yet.
    OSError
        If the file cannot be written; what was there before is there still.

    Notes
    -----
    Without this package: ``module.load_state_dict(safetensors.torch.load_file(path))``.

    Examples
    --------
    >>> import os, tempfile
    >>> from safetensors.torch import load_file
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier
    >>> from skorchlike.model.persistence import save_weights
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(module__hidden_layer_sizes=(8,), max_epochs=1).fit(X, y)
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.safetensors")
    >>> save_weights(net, path)
    >>> {name: tuple(tensor.shape) for name, tensor in load_file(path).items()}
    {'0.bias': (8,), '0.weight': (8, 4), '2.bias': (3,), '2.weight': (3, 8)}
    """
    module = _module_of(estimator)
    tensors, extra = {}, {}
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            encoded, found = encode(value, name)
            if list(found) != [name] or "dtype" in encoded:
                raise FormatError(
                    f"The tensor {name!r} ({value.dtype}) cannot be written to a file of weights. "
                    "Use save, or torch.save."
                )
            tensors[name] = found[name]
        else:
            extra[name], more = encode(value, name)
            tensors.update(more)
    write_atomically(path, packed({"extra": extra}, tensors, "weights"))


def load_weights(estimator: Any, path: PathLike) -> Any:
    """Put the weights in a file into a fitted estimator.

    Parameters
    ----------
    estimator : NeuralNetClassifier or NeuralNetRegressor
        Fitted, with a module of the same shape. Nothing else of it changes: the optimizer
        keeps its state, the history its records.
    path : path
        A file of `save_weights` or `save`, a checkpoint, or any safetensors file with the
        names of the module's ``state_dict()``. Floating-point numbers of another precision
        are cast.

    Returns
    -------
    estimator
        The same one.

    Raises
    ------
    NotFittedError
        If there is no model yet.
    FormatError
        If names or shapes differ; it lists them. Then nothing has been changed.
    DamagedFileError
        If it is no safetensors file, or is damaged.
    OSError
        If it cannot be read.
    """
    module = copy.deepcopy(_module_of(estimator))
    new, of_whole = _read_weights(path)
    wanted = module.state_dict()
    if of_whole:
        # beside the state a module may have other tensors, which a file of the whole holds too
        new = {k: v for k, v in new.items() if k in wanted or not _has_tensor(module, k)}
    differences = list(_differences(wanted, new))
    if differences:
        told = "\n".join(f"- {line}" for line in differences[:MOST_TOLD])
        more = len(differences) - MOST_TOLD
        raise FormatError(
            f"{path} does not fit the module {type(module).__name__}:\n{told}"
            + (f"\n- and {more} more" if more > 0 else "")
            + "\nFit the estimator with the parameters of the one that the weights are from."
        )
    module.load_state_dict(new)
    estimator.model_ = dataclasses.replace(estimator.model_, module_=module)
    return estimator


def _read_weights(path: PathLike) -> tuple[dict[str, Any], bool]:
    """Return a module's state by names, and whether it is part of a larger whole."""
    data = read_whole(Path(path))
    try:
        metadata = read_metadata(data)
        if metadata.get("format") != FORMAT:
            if len(MARKS & metadata.keys()) > 2:  # else the checksum could be passed by
                raise DamagedFileError("its format is not the one that was written")
            return dict(read_tensors(data)), False
    except DamagedFileError as error:
        raise damaged(str(path), error, data) from error.__cause__
    kind = metadata.get("kind")
    plain, tensors = unpack(Path(path), kind if kind in KINDS else "weights")
    if kind == "weights":
        try:
            extra = plain_dict(decode(plain["extra"], tensors, Trusted()))
        except (LookupError, TypeError) as error:
            raise DamagedFileError(f"{path} cannot be read: it holds no weights.") from error
        of_extra = set(parts_of(plain["extra"], "name"))
        state = {name: tensor for name, tensor in tensors.items() if name not in of_extra}
        return {**state, **extra}, False
    of_module = {k.removeprefix(MODULE): v for k, v in tensors.items() if k.startswith(MODULE)}
    if not of_module:
        raise FormatError(f"{path} holds no trained module: the estimator was not fitted.")
    return of_module, True


def _has_tensor(module: nn.Module, name: str) -> bool:
    """Whether a module has a tensor of this name beside its state."""
    owner, _, last = name.rpartition(".")
    try:
        return isinstance(getattr(module.get_submodule(owner), last, None), Tensor)
    except AttributeError:
        return False


def _differences(wanted: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    """Yield what is missing, unknown, or of another shape or kind of numbers."""
    for name, was in wanted.items():
        if name not in new:
            yield f"{name}: missing in the file"
            continue
        value = new[name]
        if not isinstance(was, Tensor):
            continue
        if not isinstance(value, Tensor):
            yield f"{name}: no tensor in the file"
            continue
        if was.shape != value.shape:
            yield f"{name}: {tuple(value.shape)} in the file, {tuple(was.shape)} in the module"
        elif was.dtype != value.dtype and not _both_floating(was, value):
            yield f"{name}: {value.dtype} in the file, {was.dtype} in the module"
    for name in sorted(new.keys() - wanted.keys()):
        yield f"{name}: not in the module"


def _both_floating(one: Tensor, other: Tensor) -> bool:
    return one.is_floating_point() and other.is_floating_point()


def _module_of(estimator: Any) -> nn.Module:
    _check_estimator(estimator)
    check_is_fitted(estimator)
    if not hasattr(getattr(estimator, "model_", None), "module_"):
        raise ParameterError(
            f"The estimator must be a NeuralNetClassifier or NeuralNetRegressor. Got a "
            f"{type(estimator).__name__}: give its step that is one."
        )
    return estimator.model_.module_


def _check_estimator(estimator: Any) -> None:
    if isinstance(estimator, type) or not hasattr(estimator, "get_params"):
        raise ParameterError(
            f"The estimator must be an estimator of scikit-learn's kind. Got {estimator!r:.100}."
        )
