"""Keeps parameters as they are, for the whole fit or for its beginning."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError
from skorchlike.params.patterns import Patterns, check_patterns, matching

if TYPE_CHECKING:
    from torch.nn import Parameter

    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


class _Freezing(Callback):
    """Turn ``requires_grad`` of named parameters off and on, and back after the fit."""

    order = -80

    # parameter → whether it was trainable before the fit; those that this callback changed
    _before: dict[Parameter, bool] | None = None
    _named: dict[str, Parameter]

    def on_exit(self, ctx: Context) -> None:
        """Make trainable what was so before the fit."""
        for parameter, trainable in (self._before or {}).items():
            parameter.requires_grad_(trainable)
        self._before, self._named = None, {}

    def _name_parameters(self, ctx: Context) -> None:
        """Find the parameters; later the module may stand in a wrapper, under other names."""
        named = list(ctx.module.named_parameters(remove_duplicate=False))
        criterion = ctx.criterion.named_parameters(remove_duplicate=False)
        named += [(f"criterion.{name}", parameter) for name, parameter in criterion]
        self._named = {n: p for n, p in named if p.is_floating_point() or p.is_complex()}
        self._before = {}

    def _select(self, patterns: Patterns, what: str) -> list[Parameter]:
        selected = [self._named[name] for name in matching(patterns, self._named)]
        if not selected:
            hint = ""
            if isinstance(patterns, str) and matching(f"{patterns}.*", self._named):
                hint = f" Those of that layer are {f'{patterns}.*'!r}."
            warnings.warn(
                f"{what} ({patterns!r}) matches no parameter.{hint} Parameters: "
                f"{', '.join(self._named)}.",
                UserWarning,
                stacklevel=2,
            )
        return selected

    def _set(self, ctx: Context, parameters: Iterable[Parameter], trainable: bool) -> None:
        assert self._before is not None
        # another one may have changed a parameter first: then that one knows how it was
        others = [c._before for c in ctx.callbacks.values() if isinstance(c, _Freezing)]
        for parameter in parameters:
            if parameter.requires_grad is not trainable:
                known = (before[parameter] for before in others if before and parameter in before)
                self._before.setdefault(parameter, next(known, parameter.requires_grad))
                parameter.requires_grad_(trainable)
                parameter.grad = None  # an optimizer moves whatever has one, by momentum or decay


class Freeze(_Freezing):
    """Keep parameters as they are for the whole fit.

    Parameters
    ----------
    patterns : str, list of str, or callable
        Which parameters: a glob such as ``"backbone.*"`` on their names (``*`` also matches
        dots), a list of globs, or a function of a name that returns whether it is meant.
        Parameters of the criterion are named ``criterion.<name>``.

    Raises
    ------
    ParameterError
        Before training: if `patterns` is not said or is none, or if nothing is left to train.

    Warns
    -----
    UserWarning
        If no parameter matches.

    Notes
    -----
    After the fit ``requires_grad`` is as it was before. Buffers are no parameters: the
    running statistics of a frozen batch normalization go on.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from torch import nn
    >>> from skorchlike import Freeze, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> net = NeuralNetClassifier(module, callbacks=[Freeze("0.*")], random_state=0).fit(X, y)
    >>> bool((net.model_.module_[0].weight == module[0].weight).all())
    True
    """

    def __init__(self, patterns: Patterns | None = None) -> None:
        self.patterns = patterns

    def on_begin(self, ctx: Context) -> None:
        """Freeze."""
        check_patterns(self.patterns, "The `patterns` parameter of Freeze")
        assert self.patterns is not None
        self._name_parameters(ctx)
        self._set(ctx, self._select(self.patterns, "The `patterns` parameter of Freeze"), False)
        later = any(isinstance(callback, Unfreeze) for callback in ctx.callbacks.values())
        if not later and not any(p.requires_grad for p in self._named.values()):
            raise ParameterError(
                f"The `patterns` parameter of Freeze ({self.patterns!r}) leaves nothing to train: "
                f"all parameters are frozen ({', '.join(self._named)}). Name fewer of them."
            )


class Unfreeze(_Freezing):
    """Train only some parameters at first, and more and more of them by a schedule.

    Parameters
    ----------
    starting : str, list of str, callable, or None, default=None
        Patterns of the parameters (as in `Freeze`) that are trained from the start; all
        others are frozen. ``None`` freezes what the schedule names; ``[]`` freezes all.
    schedule : dict or None, default=None
        Number of an epoch or batch, from 1 → patterns of the parameters that are trained
        from its beginning on.
    unit : {"epoch", "batch"}, default="epoch"
        What the numbers count; batches are training batches over all epochs
        (``ctx.global_step``).

    Raises
    ------
    ParameterError
        Before training, if `starting` or `schedule` is impossible or neither is said.

    Warns
    -----
    UserWarning
        If patterns match no parameter, or an entry only parameters that are trained already.

    Notes
    -----
    What the module itself had frozen before the fit stays so until the schedule names it;
    `starting` does not unfreeze. After the fit ``requires_grad`` is as it was before. In a fit
    that is continued the schedule goes on. A batch in which nothing is trainable is an error.

    The schedule follows mlr3torch's callback ``unfreeze``; the technique is J. Howard and
    S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from torch import nn
    >>> from skorchlike import NeuralNetClassifier, Unfreeze
    >>> X, y = load_iris(return_X_y=True)
    >>> module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> callbacks = [Unfreeze(starting="2.*", schedule={3: "0.weight", 5: "0.bias"})]
    >>> net = NeuralNetClassifier(module, max_epochs=4, callbacks=callbacks, random_state=0)
    >>> fitted = net.fit(X, y).model_.module_
    >>> bool((fitted[0].weight == module[0].weight).all())
    False
    >>> bool((fitted[0].bias == module[0].bias).all())
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "schedule": [dict, None],
        "unit": [StrOptions({"epoch", "batch"})],
    }

    def __init__(
        self,
        starting: Patterns | None = None,
        schedule: dict[int, Patterns] | None = None,
        unit: str = "epoch",
    ) -> None:
        self.starting = starting
        self.schedule = schedule
        self.unit = unit

    def advise(self, setup: Setup) -> list[str]:
        """Tell of entries that this fit does not reach."""
        return [
            f"The schedule of {setup.name!r} names epoch {key}, and the fit has {setup.max_epochs}."
            for key in self._checked_schedule()
            if self.unit == "epoch" and key > setup.max_epochs
        ]

    def on_begin(self, ctx: Context) -> None:
        """Freeze all that is not trained from the start, but what is due already."""
        schedule = self._checked_schedule()
        self._name_parameters(ctx)
        what = "The entry {} in the `schedule` parameter of Unfreeze"
        self._due = [
            (key, self._select(patterns, what.format(key))) for key, patterns in schedule.items()
        ]
        later = {parameter for _, selected in self._due for parameter in selected}
        if self.starting is None:
            frozen = later
        elif self.starting or callable(self.starting):
            starting = self._select(self.starting, "The `starting` parameter of Unfreeze")
            frozen = {*self._named.values()}.difference(starting)
        else:
            frozen = {*self._named.values()}
        self._set(ctx, frozen, False)
        self._warn_of_no_effect()
        self._unfreeze(ctx)

    def on_epoch_begin(self, ctx: Context) -> None:
        """Unfreeze what is due."""
        self._unfreeze(ctx)

    def on_batch_begin(self, ctx: Context) -> None:
        """Unfreeze what is due."""
        self._unfreeze(ctx)

    def _unfreeze(self, ctx: Context) -> None:
        now = ctx.epoch if self.unit == "epoch" else ctx.global_step
        while self._due and self._due[0][0] <= now:
            self._set(ctx, self._due.pop(0)[1], True)

    def _checked_schedule(self) -> dict[int, Patterns]:
        if self.starting is None and not self.schedule:
            raise ParameterError(
                "Unfreeze needs `schedule` or `starting`, such as starting='head.*', "
                "schedule={5: '*'}. Got neither."
            )
        if self.starting is not None:
            check_patterns(self.starting, "The `starting` parameter of Unfreeze")
        schedule = self.schedule or {}
        for key, patterns in schedule.items():
            if not isinstance(key, Integral) or isinstance(key, bool) or key < 1:
                raise ParameterError(
                    f"A key in the `schedule` parameter of Unfreeze must be the number of "
                    f"{'an epoch' if self.unit == 'epoch' else 'a batch'}, from 1. Got {key!r}."
                )
            check_patterns(patterns, f"The entry {key} in the `schedule` parameter of Unfreeze")
        return dict(sorted(schedule.items()))

    def _warn_of_no_effect(self) -> None:
        trained = {p for p in self._named.values() if p.requires_grad}
        for key, selected in self._due:
            if selected and trained.issuperset(selected):
                warnings.warn(
                    f"The entry {key} in the `schedule` parameter of Unfreeze names only "
                    "parameters that are trained by then. Leave it out, or name less in "
                    "`starting`.",
                    UserWarning,
                    stacklevel=2,
                )
            trained.update(selected)
