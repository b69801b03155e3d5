"""One fit from start to end, and one prediction: the hall from which the wings are reached."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch
from torch import nn

from skorchlike.callbacks.print_log import PrintLog
from skorchlike.callbacks.sklearn_tasks import SklearnTasks
from skorchlike.data.arrays import input_batches, to_tensor
from skorchlike.data.batches import (
    AUTO_PREDICT_BATCH_SIZE,
    Batching,
    FitData,
    Placement,
    make_batches,
    resolve_batch_size,
)
from skorchlike.data.checks import (
    as_numpy,
    check_device,
    check_dtype,
    check_lengths,
    check_weight,
    check_X,
    warn_continued,
)
from skorchlike.exceptions import ParameterError
from skorchlike.model.history import history_frame
from skorchlike.model.trained import TrainedModel
from skorchlike.params.components import (
    build_callbacks,
    build_criterion,
    build_module,
    build_optimizer,
    follows_input_dtype,
    named_callbacks,
    optimizer_options,
)
from skorchlike.params.routing import is_dropped
from skorchlike.training.actions import DefaultActions
from skorchlike.training.calls import in_order, uses_stage
from skorchlike.training.context import Context
from skorchlike.training.loop import Loop
from skorchlike.training.losses import INDICATOR_CRITERIA, LossFunction
from skorchlike.training.prediction import predict_batches
from skorchlike.training.scores import R2, Accuracy, main_output
from skorchlike.training.stages import PREDICT_STAGES

# what the estimators need of the wings, which they reach through this hall alone
__all__ = [
    "INDICATOR_CRITERIA",
    "R2",
    "Accuracy",
    "DefaultActions",
    "FitData",
    "LossFunction",
    "as_numpy",
    "build_callbacks",
    "check_X",
    "check_lengths",
    "check_weight",
    "fit_model",
    "follows_input_dtype",
    "history_frame",
    "in_order",
    "named_callbacks",
    "predict_model",
]

CPU = torch.device("cpu")
OWN_COLUMNS = ("epoch", "train_loss", "lr", "duration")


@dataclass
class Parts:
    """The components of one fit; `options` are those of the optimizer's groups at first."""

    module: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    options: list[dict[str, Any]]
    place: Placement


def fit_model(
    estimator: Any,
    data: FitData,
    *,
    n_epochs: int,
    extra_callbacks: Any = None,
    continued: TrainedModel | None = None,
    sklearn_task: tuple[Any, dict[str, Any]] | None = None,
) -> tuple[TrainedModel, KeyboardInterrupt | None]:
    """Run one fit.

    Parameters
    ----------
    estimator : BaseNeuralNet
        Says the parameters; nothing of it is changed.
    data : FitData
        The checked data.
    n_epochs : int
        How many epochs to train.
    extra_callbacks : None, dict or list
        Callbacks for this fit alone.
    continued : TrainedModel or None
        The model of the fit that this one continues; it is not changed.
    sklearn_task : tuple or None
        The task of the fit and its data, where there are callbacks of scikit-learn's own.

    Returns
    -------
    model : TrainedModel
        What the fit produced.
    interrupt : KeyboardInterrupt or None
        To be raised once the model is kept.
    """
    device = check_device(estimator.device)
    seed = draw_seed(estimator.random_state) if continued is None else continued.seed_
    init_seed, shuffle_seed, split_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    generator = torch.Generator().manual_seed(shuffle_seed)
    before = {} if continued is None else continued.continuation_
    interrupt = None
    with private_rng(init_seed, device):
        parts = build_parts(estimator, data, device, continued)
        how = Batching(**{name: getattr(estimator, name) for name in Batching.__annotations__})
        train, valid = make_batches(data, parts.place, how, generator, split_seed)
        callbacks = collect_callbacks(estimator, extra_callbacks)
        if before:
            restore_rng(before["rng"], generator)

        def model(states: Mapping[str, Any]) -> TrainedModel:
            return _trained(parts, ctx, seed, states, generator)

        def live_model() -> TrainedModel:
            states = {name: callback.state_dict() for name, callback in callbacks.items()}
            return model({name: state for name, state in states.items() if state is not None})

        if sklearn_task is not None:
            callbacks["sklearn_callbacks"] = SklearnTasks(*sklearn_task, view=live_model)
        callbacks = in_order(callbacks)
        score = estimator._make_score() if valid is not None else None
        epoch = 0 if continued is None else continued.n_epochs_
        ctx = Context(
            estimator=estimator,
            module=parts.module,
            device=device,
            criterion=parts.criterion,
            optimizer=parts.optimizer,
            loss_function=estimator._make_loss(parts.criterion),
            callbacks=callbacks,
            max_epochs=epoch + n_epochs,
            n_updates=n_epochs * train.n_batches,
            columns=_columns(callbacks, score),
            history=[] if continued is None else copy.deepcopy(continued.history_),
            epoch=epoch,
            global_step=before.get("global_step", 0),
            fitted_estimator=lambda: _view(estimator, live_model()),
            snapshot=lambda: _snapshot(live_model()),
        )
        try:
            loop = Loop(ctx, train, valid, score, estimator.valid_every, _states(callbacks, before))
            try:
                loop.fit()
            except KeyboardInterrupt as error:
                interrupt = error
            parts.module.eval()
            return model(loop.states), interrupt
        finally:
            ctx._kill()


# ------------------------------------------------------------------ components


def build_parts(
    estimator: Any, data: FitData, device: torch.device, continued: TrainedModel | None
) -> Parts:
    """Build module, criterion and optimizer; continue from a model where there is one."""
    criterion_spec = estimator.criterion
    if criterion_spec is None:
        criterion_spec = estimator._default_criterion
    criterion = build_criterion(criterion_spec, estimator._said_to("criterion"))
    cls, options = optimizer_options(
        estimator.optimizer, estimator.lr, estimator._said_to("optimizer")
    )
    module_spec = "mlp" if estimator.module is None else estimator.module
    n_in, n_out = int(estimator.n_features_in_), estimator._n_outputs(criterion)
    sizes = {"n_features_in": n_in, "in_features": n_in, "n_outputs": n_out, "out_features": n_out}
    module = build_module(module_spec, estimator._said_to("module"), sizes)
    if continued is not None:
        module = _continued_module(module, continued)
    module, place = _place(module, criterion, module_spec, estimator.dtype, data.X, device)
    if any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
        _materialize(module, data.X, place)
    module.train()
    parameters = dict(module.named_parameters())
    parameters.update({f"criterion.{n}": p for n, p in criterion.named_parameters()})
    optimizer = build_optimizer(cls, options, parameters)
    groups = [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
    if continued is not None:
        criterion.load_state_dict(continued.criterion_.state_dict())
        _continue_optimizer(optimizer, groups, continued)
    return Parts(module, criterion, optimizer, groups, place)


def _place(
    module: nn.Module, criterion: nn.Module, spec: Any, dtype: Any, X: Any, device: torch.device
) -> tuple[nn.Module, Placement]:
    """Move the module to its device and dtype; tell what the data become."""
    wanted = check_dtype(dtype)
    x_dtype = (
        X.dtype if isinstance(X, torch.Tensor) else to_tensor(np.empty(0, X.dtype), None, CPU).dtype
    )
    if wanted is not None and not wanted.is_floating_point and follows_input_dtype(spec):
        raise ParameterError(
            f"The `dtype` parameter ({wanted}) must be a floating one for a built-in module."
        )
    if wanted is None and follows_input_dtype(spec):
        wanted = x_dtype
    if wanted is not None and wanted.is_floating_point:
        module = module.to(wanted)
    floating = (p.dtype for p in module.parameters() if p.is_floating_point())
    own = next(floating, torch.get_default_dtype())
    criterion.to(device=device, dtype=own)
    input_dtype = own if wanted is None else wanted
    looks_up = any(isinstance(part, (nn.Embedding, nn.EmbeddingBag)) for part in module.modules())
    if wanted is None and looks_up and not x_dtype.is_floating_point:
        input_dtype = torch.int64  # row numbers of an embedding, not quantities
    return module.to(device), Placement(device, input_dtype, own)


def _materialize(module: nn.Module, X: Any, place: Placement) -> None:
    """Give lazy layers their sizes by a pass over two rows."""
    batch, *_ = next(input_batches(X[:2], 2, place.input_dtype, place.device))
    with torch.no_grad():
        module.eval()(batch)


def _continued_module(built: nn.Module, continued: TrainedModel) -> nn.Module:
    """Copy the trained module; what is said now must describe it still."""

    def shapes(module: nn.Module) -> dict[str, Any]:
        return {name: getattr(value, "shape", None) for name, value in module.state_dict().items()}

    trained = continued.module_
    lazy = any(isinstance(p, nn.UninitializedParameter) for p in built.parameters())
    if type(built) is not type(trained):
        change = f"it was a {type(trained).__name__} and is a {type(built).__name__}"
    elif not lazy and shapes(built) != shapes(trained):
        was, now = shapes(trained), shapes(built)
        name = next(n for n in {**was, **now} if was.get(n) != now.get(n))
        change = f"the shape of {name!r} was {was.get(name)} and is {now.get(name)}"
    else:
        return copy.deepcopy(trained)
    raise ParameterError(
        "The `module` parameter or its arguments have changed since the fit that is to be "
        f"continued: {change}. Set them back, or fit anew with warm_start=False."
    )


def _continue_optimizer(
    optimizer: torch.optim.Optimizer, options: list[dict[str, Any]], continued: TrainedModel
) -> None:
    """Take up the optimizer's state; options said otherwise since then win."""
    before = continued.continuation_
    if before["optimizer"] is not type(optimizer):
        warn_continued(
            f"The optimizer is {type(optimizer).__name__} and was "
            f"{before['optimizer'].__name__} in the fit that is continued: it starts afresh."
        )
        return
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != [len(group["params"]) for group in continued.optimizer_["param_groups"]]:
        raise ParameterError(
            "The groups of optimizer__param_groups have changed since the fit that is to be "
            "continued. Set them back, or fit anew with warm_start=False."
        )
    optimizer.load_state_dict(copy.deepcopy(continued.optimizer_))
    for group, was, now in zip(optimizer.param_groups, before["options"], options, strict=True):
        group.update({name: value for name, value in now.items() if was.get(name) != value})


# ------------------------------------------------------------------- callbacks


def collect_callbacks(estimator: Any, extra: Any) -> dict[str, Any]:
    """Clone the estimator's callbacks, add those of this fit, and the log if asked for."""
    callbacks: dict[str, Any] = dict(
        build_callbacks(estimator.callbacks, estimator._said_to("callbacks"))
    )
    for name, callback in build_callbacks(extra, {}).items():
        if name in callbacks:
            raise ParameterError(
                f"The callback name {name!r} given to fit is taken by one of the estimator's. "
                "Give it another: fit(..., callbacks={'name': callback})."
            )
        callbacks[name] = callback
    if estimator.verbose and not any(isinstance(c, PrintLog) for c in callbacks.values()):
        callbacks.setdefault("print_log", PrintLog())
    return callbacks


def _columns(callbacks: Mapping[str, Any], score: Any) -> tuple[str, ...]:
    columns = [*OWN_COLUMNS]
    if score is not None:
        columns += ["valid_loss", f"valid_{score.name}"]
    columns += [name for callback in callbacks.values() for name in callback.logs]
    return tuple(dict.fromkeys(columns))


def _class_name(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _states(callbacks: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of the states to take up: of the same name and class."""
    states = {}
    for name, (cls, state) in before.get("callbacks", {}).items():
        if name not in callbacks:
            continue
        if cls == _class_name(callbacks[name]):
            states[name] = copy.deepcopy(state)
        else:
            warn_continued(
                f"The callback {name!r} is a {_class_name(callbacks[name])} and was a {cls} in "
                "the fit that is continued: it starts afresh."
            )
    return states


# ----------------------------------------------------------------------- model


def _trained(
    parts: Parts, ctx: Context, seed: int, states: Mapping[str, Any], generator: torch.Generator
) -> TrainedModel:
    classes = {name: _class_name(ctx.callbacks[name]) for name in states}
    return TrainedModel(
        module_=parts.module,
        criterion_=parts.criterion,
        optimizer_=parts.optimizer.state_dict(),
        callbacks_=Bunch(**states),
        history_=ctx.history,
        n_epochs_=ctx.epoch,
        stop_reason_=ctx.stop_reason,
        seed_=seed,
        device_=parts.place.device,
        input_dtype_=parts.place.input_dtype,
        continuation_={
            "callbacks": {name: (classes[name], state) for name, state in states.items()},
            "global_step": ctx.global_step,
            "optimizer": type(parts.optimizer),
            "options": parts.options,
            "rng": rng_state(parts.place.device, generator),
        },
    )


def _view(estimator: Any, model: TrainedModel) -> Any:
    view = copy.copy(estimator)
    view.model_ = model
    return view


def _snapshot(model: TrainedModel) -> dict[str, Any]:
    return copy.deepcopy(
        {
            "module": model.module_.state_dict(),
            "criterion": model.criterion_.state_dict(),
            "optimizer": model.optimizer_,
            "callbacks": model.continuation_["callbacks"],
            "history": model.history_,
            "epoch": model.n_epochs_,
            "global_step": model.continuation_["global_step"],
            "rng": model.continuation_["rng"],
            "seed": model.seed_,
        }
    )


# ------------------------------------------------------------------ randomness


def draw_seed(random_state: Any) -> int:
    """Return a seed; a generator that was passed is left as it was."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(copy.deepcopy(random_state).randint(2**31 - 1))
    return int(random_state)


@contextmanager
def private_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators for a fit, and put them back afterwards.

    They are global to the process: fits in parallel threads disturb one another.
    """
    cuda = []
    if device.type == "cuda":
        cuda = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=cuda):
        # not torch.manual_seed: it would seed the other devices too, unrestored
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield


def rng_state(device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Return the state of the generators that a fit uses."""
    state = {"torch": torch.get_rng_state(), "shuffle": generator.get_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng(state: Mapping[str, Any], generator: torch.Generator) -> None:
    """Go on with the random numbers where an earlier fit stopped."""
    torch.set_rng_state(state["torch"])
    generator.set_state(state["shuffle"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


# ------------------------------------------------------------------ prediction


def predict_model(estimator: Any, X: Any) -> torch.Tensor:
    """Return the module's outputs for checked inputs, on the module's device.

    Callbacks that define predict stages or ``do_predict`` run as clones, with the
    state that the fit left them.
    """
    model = estimator.model_
    size = resolve_batch_size(estimator.predict_batch_size, len(X), AUTO_PREDICT_BATCH_SIZE)
    ctx = Context(
        estimator=estimator,
        module=model.module_,
        device=model.device_,
        callbacks=_predict_callbacks(estimator, model),
        history=model.history_,
        epoch=model.n_epochs_,
    )
    batches = input_batches(X, size, model.input_dtype_, model.device_)
    outputs = predict_batches(ctx, batches, -(-len(X) // size))
    outputs = [main_output(output) for output in outputs]
    for output in outputs:
        if not isinstance(output, torch.Tensor):
            raise ParameterError(
                f"The module returned a {type(output).__name__}; predict needs a tensor, or a "
                "tuple that begins with one."
            )
    # a module that squeezes its output returns no dimension for a single row
    outputs = [output.reshape(1) if output.ndim == 0 else output for output in outputs]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _predict_callbacks(estimator: Any, model: TrainedModel) -> dict[str, Any]:
    """Clone the callbacks that act in predict, with their trained state."""
    said = estimator._said_to("callbacks")
    if estimator.callbacks is None and not said:
        return {}
    acting = {
        name: callback
        for name, callback in named_callbacks(estimator.callbacks, said).items()
        if not is_dropped(callback)
        and (
            any(uses_stage(callback, stage) for stage in PREDICT_STAGES)
            or hasattr(callback, "do_predict")
        )
    }
    if not acting:
        return {}
    built = build_callbacks(estimator.callbacks, said)
    callbacks = in_order({name: built[name] for name in acting})
    for name, callback in callbacks.items():
        cls, state = model.continuation_["callbacks"].get(name, (None, None))
        if cls == _class_name(callback):
            callback.load_state_dict(copy.deepcopy(state))
    return callbacks
