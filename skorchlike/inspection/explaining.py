"""What a fit would do, before it is done."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from skorchlike.callbacks.base import Callback, Setup
from skorchlike.estimator import BaseNeuralNet
from skorchlike.exceptions import ParameterError
from skorchlike.fitting import (
    OWN_COLUMNS,
    build_callbacks,
    check_components,
    example_optimizer,
)
from skorchlike.params.calling import parameters_of
from skorchlike.params.routing import RoutedParams
from skorchlike.training.calls import (
    columns_of,
    describe_callback,
    in_order,
    resolve_action,
    resolve_actions,
    resolve_stages,
    uses_stage,
)
from skorchlike.training.fast import BY_HAND, DIRECT, GENERAL, obstacles, why_not
from skorchlike.training.stages import ACTIONS, TABLE

NOT_SAID = ("params", "lr", "size_average", "reduce", "optimizer", "last_epoch")
"""Arguments of torch's constructors that fit gives, or that torch has deprecated."""


def explain(estimator: Any) -> Explanation:
    """Show what a fit of an estimator would do, without fitting it.

    Parameters
    ----------
    estimator : NeuralNetClassifier, NeuralNetRegressor, or Pipeline that ends in one
        Fitted or not; nothing of it is changed.

    Returns
    -------
    Explanation
        Print it, or read its tables: who runs at which stage, who provides each action,
        what looks wrong, and every parameter that can be set or searched.

    Raises
    ------
    ParameterError
        If it is no such estimator, or its `callbacks` are none.

    Examples
    --------
    >>> from skorchlike import EarlyStopping, NeuralNetClassifier, explain
    >>> net = NeuralNetClassifier(callbacks=[EarlyStopping()])
    >>> for warning in explain(net).warnings:
    ...     print(warning)
    early_stopping: EarlyStopping monitors 'valid_loss', and this fit has no validation data...
    >>> explain(net).actions["step"]
    'the estimator (NeuralNetClassifier)'
    """
    from sklearn.pipeline import Pipeline  # not cheap to import

    prefix = ""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        prefix, estimator = f"{name}__", last
    if not isinstance(estimator, BaseNeuralNet):
        raise ParameterError(
            "explain takes a NeuralNetClassifier, a NeuralNetRegressor or a Pipeline that ends in "
            f"one. Got a {type(estimator).__name__}."
        )
    return Explanation(estimator, prefix)


class Explanation:
    """What a fit would do: returned by `explain`.

    Attributes
    ----------
    stages : DataFrame
        A row for each stage and action in the order in which they run, a column for
        each callback in its order (and one for the estimator); a number tells who runs
        first, 0 that one does not act there.
    actions : dict
        Action → who provides it, or the error that two provide it.
    path : str
        Which way the training batches of a fit will go and why it is not a faster one, as far as
        it can be told before; and which way they went in the last fit (``model_.path_``).
    warnings : list of str
        What looks wrong.
    parameters : DataFrame
        Every parameter that ``set_params`` takes and a search can vary: `value`, and
        whether it was `said` (else it is a default).
    """

    def __init__(self, estimator: BaseNeuralNet, prefix: str = "") -> None:
        self.estimator = type(estimator).__name__
        self.warnings: list[str] = []
        callbacks = build_callbacks(estimator.callbacks, estimator._said_to("callbacks"))
        self.callbacks = self._ordered(callbacks)
        self.actions = {action: self._provider(action, estimator) for action in ACTIONS}
        self.path = self._path(estimator)
        self.stages = self._stages(estimator)
        self.warnings += _wrong_parameters(estimator) + check_components(estimator)
        self._ask_callbacks(estimator)
        self.parameters = _parameters(estimator, prefix)

    def _ordered(self, callbacks: Mapping[str, Any]) -> dict[str, Callback]:
        try:
            return in_order(callbacks)
        except ParameterError as error:
            self.warnings.append(str(error))
            return dict(sorted(callbacks.items(), key=lambda item: item[1].order))

    def _provider(self, action: str, estimator: BaseNeuralNet) -> str:
        try:
            return resolve_action(action, self.callbacks, estimator).owners[0]
        except ParameterError as error:
            self.warnings.append(str(error))
            return f"an error: {error}"

    def _path(self, estimator: BaseNeuralNet) -> str:
        expected = _expected_path(self.callbacks, estimator)
        model = vars(estimator).get("model_")
        if model is None or not model.path_:
            return expected
        reason = model.path_reason_ and f": {model.path_reason_}"
        return f"{expected} (in the last fit {model.path_}{reason})"

    def _stages(self, estimator: BaseNeuralNet) -> pd.DataFrame:
        rows = []
        for row in TABLE:
            acts = {name: _acts(cb, row) for name, cb in self.callbacks.items()}
            numbers = iter(range(1, len(acts) + 1))
            cells = {name: next(numbers) if does else 0 for name, does in acts.items()}
            cells["(estimator)"] = int(row.is_action and not any(acts.values()))
            rows.append({"level": row.level, "stage": row.name, **cells})
        return pd.DataFrame(rows).set_index(["level", "stage"])

    def _ask_callbacks(self, estimator: BaseNeuralNet) -> None:
        columns = _columns(estimator, self.callbacks)
        for name, callback in self.callbacks.items():
            said: list[str] = []
            try:
                callback._validate_params()
                said += _advice(Setup(name, self.callbacks, columns, estimator.max_epochs))
            except ValueError as error:
                said.append(str(error))
            self.warnings += [f"{name}: {sentence}" for sentence in said]

    def __repr__(self) -> str:
        return "\n".join(_lines(self))

    def _repr_html_(self) -> str:
        warnings = "".join(f"<li>{_escape(text)}</li>" for text in self.warnings)
        used = self.stages[(self.stages > 0).any(axis=1)]
        return (
            f"<p>A fit of {self.estimator}:</p><ul>{warnings or '<li>no warnings</li>'}</ul>"
            f"<p>Training step: {_escape(self.path)}</p>"
            f"{used.to_html()}{self.parameters.to_html()}"
        )


def _expected_path(callbacks: Mapping[str, Callback], estimator: BaseNeuralNet) -> str:
    """Say which way the training batches of a fit will go, as far as it can be told before."""
    try:
        do = resolve_actions(callbacks, estimator)
        on = resolve_stages(callbacks)
        optimizer = example_optimizer(estimator)
    except ValueError as error:
        return f"an error: {error}"
    not_direct, not_by_hand = obstacles(do, on)
    not_direct = not_direct or (None if optimizer is None else why_not(optimizer))
    if not_direct is not None:
        return f"{GENERAL}: {not_direct}"
    if not_by_hand is not None:
        return f"{DIRECT}: {not_by_hand}"
    where = "if the module is linear layers with activations between them"
    return f"{BY_HAND}, {where}; else {DIRECT}"


def _advice(setup: Setup) -> list[str]:
    """Ask a callback, and refuse what is no list of sentences."""
    callback = setup.callbacks[setup.name]
    who = describe_callback(setup.name, callback)
    try:
        advice = callback.advise(setup)
    except Exception as error:
        error.add_note(f"Raised by advise() of {who}.")
        raise
    if not isinstance(advice, (list, tuple)) or not all(isinstance(text, str) for text in advice):
        raise ParameterError(f"advise() of {who} must return a list of strings. Got {advice!r}.")
    return list(advice)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _acts(callback: Any, row: Any) -> bool:
    if row.is_action:
        in_predict = "predict" in row.phases
        return hasattr(callback, f"do_{row.name}") and (row.name == "predict" or not in_predict)
    return uses_stage(callback, row.name)


def _columns(estimator: BaseNeuralNet, callbacks: Mapping[str, Any]) -> tuple[str, ...]:
    columns = list(OWN_COLUMNS)
    if estimator.validation_fraction is not None:
        columns += ["valid_loss", f"valid_{estimator._score_name}"]
    return tuple(dict.fromkeys([*columns, *columns_of(callbacks)]))


def _wrong_parameters(estimator: BaseNeuralNet) -> list[str]:
    try:
        estimator._validate_params()
    except ValueError as error:
        return [str(error)]
    return []


# -------------------------------------------------------------------- parameters


def _parameters(estimator: BaseNeuralNet, prefix: str) -> pd.DataFrame:
    values = estimator.get_params(deep=True)
    said = {*estimator._said}
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(estimator)).parameters.items()
    }
    rows = {
        name: (value, name in said or (name in defaults and value is not defaults[name]))
        for name, value in values.items()
    }
    for name, default in _routable(estimator):
        rows.setdefault(name, (default, False))
    rows["optimizer__lr"] = rows.get("optimizer__lr", (estimator.lr, False))
    rows.setdefault("optimizer__param_groups", (None, False))
    names = sorted(rows, key=lambda name: (name.partition("__")[0], name))
    frame = pd.DataFrame(
        {"value": [rows[n][0] for n in names], "said": [rows[n][1] for n in names]},
        index=pd.Index([f"{prefix}{name}" for name in names], name="parameter"),
        dtype=object,
    )
    return frame.astype({"said": bool})


def _routable(holder: RoutedParams, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arguments of components that can be said, with their defaults."""
    for component in holder._components:
        make = holder._takes(component)
        if make is not None:
            for name, parameter in parameters_of(make).items():
                named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
                if named and name not in NOT_SAID:
                    default = parameter.default
                    if name in holder._from_fit.get(component, ()):
                        default = "(from the fit)"
                    elif default is parameter.empty:
                        default = "(needed)"
                    yield f"{prefix}{component}__{name}", default
        for name, part in (holder._parts(component, holder._said) or {}).items():
            if isinstance(part, RoutedParams):
                yield from _routable(part, f"{prefix}{component}__{name}__")


# --------------------------------------------------------------------------- text


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"A fit of {explanation.estimator}, callbacks in their order: " + (
        ", ".join(explanation.callbacks) or "none"
    )
    yield f"Training step: {explanation.path}"
    yield ""
    if explanation.warnings:
        yield "Warnings"
        yield from (f"  ! {text}" for text in explanation.warnings)
    else:
        yield "No warnings"
    yield ""
    yield "Stages and actions that somebody uses, in the order in which they run"
    level = ""
    records = explanation.stages.reset_index().to_dict("records")
    for record in records:
        row_level, stage = record.pop("level"), record.pop("stage")
        acting = [str(name) for name, number in record.items() if number]
        if not acting:
            continue
        if row_level != level:
            level = row_level
            yield f"  {level}"
        yield f"    {stage:<30} {', '.join(acting)}"
    yield ""
    yield "Parameters to set or search (* said)"
    for name, (value, said) in explanation.parameters.iterrows():
        text = repr(value).replace("\n", " ")
        text = text if len(text) <= 60 else f"{text[:57]}..."
        yield f"  {'*' if said else ' '} {name} = {text}"
