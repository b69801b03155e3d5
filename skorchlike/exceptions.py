"""The exceptions that steer the loop, and the errors that explain what went wrong."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Iterable
from types import ModuleType


class CancelException(Exception):
    """Base of the three exceptions by which a callback leaves a part of the loop early."""


class CancelBatchException(CancelException):
    """Skip the rest of the current batch; the loop goes on with the next one.

    Allowed in every batch stage and action of training and validation. The stage
    ``on_batch_exit`` still runs, and so does ``zero_grad`` once ``step`` has run.
    The idea and the name come from fastai.
    """


class CancelEpochException(CancelException):
    """Skip the rest of the current phase (training or validation) of the epoch.

    In the training phase validation follows; in the validation phase
    ``on_epoch_end`` follows. Raised in ``on_epoch_begin`` or ``on_before_valid`` it
    skips what is left of the epoch but ``on_epoch_end``.
    """


class CancelFitException(CancelException):
    """End the fit at once, normally: ``on_end`` runs and the model is kept.

    Allowed from ``on_begin`` to ``on_epoch_end``.
    """


class ParameterError(ValueError, TypeError):
    """A parameter has an unknown name or an impossible value.

    It is a ``ValueError`` and a ``TypeError``, as scikit-learn's own
    ``InvalidParameterError`` is, so that either handler catches it.
    """


class CallbackDefinitionError(TypeError):
    """A `Callback` subclass is written wrongly: an unknown stage, a wrong signature."""


class StageError(RuntimeError):
    """Something was done at a stage of the loop where it has no meaning."""


class DeadContextError(RuntimeError):
    """A `Context` was used after the run that it belonged to had ended."""


class FormatError(ValueError):
    """A file cannot be read or written: another format or version, or what no file can hold."""


class DamagedFileError(FormatError):
    """A file is not what it was when it was written, or is no file of this package."""


class UntrustedError(FormatError):
    """A file names a class or function that the reader was not told to trust."""


class CheckpointError(RuntimeError):
    """A folder of checkpoints cannot be used: another run's, in use, or damaged."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest valid name, else the valid names.

    Parameters
    ----------
    name : str
        The name that was not found.
    valid : iterable of str
        The names that exist.

    Returns
    -------
    str
        A sentence that begins with a space, ready to be put behind a message.

    Examples
    --------
    >>> did_you_mean("max_epoch", ["max_epochs", "lr"])
    " Did you mean 'max_epochs'?"
    """
    valid = sorted({str(v) for v in valid})
    nearest = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.6)
    if nearest:
        return f" Did you mean {nearest[0]!r}?"
    if not valid:
        return " There are none."
    return f" Valid names: {', '.join(valid)}."


def import_extra(module: str, extra: str, needed_by: str) -> ModuleType:
    """Import an optional library, or say which extra brings it.

    Parameters
    ----------
    module : str
        What to import, such as ``"tqdm.auto"``.
    extra : str
        The extra of this package that installs it.
    needed_by : str
        What needs it; stands in the error.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ImportError(
            f"{needed_by} needs the library {library!r}, which is not installed. "
            f"Install it with: pip install 'skorchlike[{extra}]'"
        ) from error


def warn_continued(message: str) -> None:
    """Warn about something that a continued fit does otherwise than a new one."""
    warnings.warn(message, UserWarning, stacklevel=2)
