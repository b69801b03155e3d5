"""Trains in bfloat16 or float16 where that is safe."""

from __future__ import annotations

import contextlib
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, Options, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


class MixedPrecision(Callback):
    """Compute module and loss in bfloat16 or float16 where that is safe, by autocast.

    The parameters, their gradients and the optimizer stay in float32.

    Parameters
    ----------
    dtype : {"bfloat16", "float16"} or torch.dtype, default="bfloat16"
        The lower precision. Small gradients vanish in float16, so the loss is then scaled
        up for the backward pass, and the gradients down again afterwards.
    init_scale : float, default=65536.0
        For float16: the first factor by which the loss is scaled.
    growth_interval : int, default=2000
        For float16: the factor is doubled after so many steps without an overflow.

    Raises
    ------
    ParameterError
        Before training: if a parameter to be trained is not float32, or the device cannot
        do it.

    Warns
    -----
    ConvergenceWarning
        At the end: if every step of the last epoch was left out.

    Notes
    -----
    From ``on_before_step`` on gradients are whole and unscaled. A step whose gradients
    overflowed in float16 is left out, they are cleared and the factor is halved; the history has
    the number of such steps as ``skipped_steps``, the state has it of the whole fit.
    Validation has autocast too; predictions after the fit are in float32.

    The technique: P. Micikevicius et al., "Mixed Precision Training", ICLR 2018. The work
    is done by ``torch.autocast`` and ``torch.amp.GradScaler``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import MixedPrecision, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(dtype="float32", callbacks=[MixedPrecision()], random_state=0)
    >>> net.fit(X, y).predict_proba(X).dtype
    dtype('float32')
    """

    order = 10
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "dtype": [
            StrOptions({"bfloat16", "float16"}),
            Options(torch.dtype, {torch.bfloat16, torch.float16}),
        ],
        "init_scale": [Interval(Real, 0, None, closed="neither")],
        "growth_interval": [Interval(Integral, 1, None, closed="left")],
    }

    _scaling: _Scaling | None = None

    def __init__(
        self,
        dtype: str | torch.dtype = "bfloat16",
        init_scale: float = 65536.0,
        growth_interval: int = 2000,
    ) -> None:
        self.dtype = dtype
        self.init_scale = init_scale
        self.growth_interval = growth_interval

    @property
    def logs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The column of the steps left out, for float16."""
        return ("skipped_steps",) if self._scales else ()

    @property
    def _scales(self) -> bool:
        return self.dtype in ("float16", torch.float16)

    def advise(self, setup: Setup) -> list[str]:
        """Warn of those who would see scaled gradients."""
        names = list(setup.callbacks)
        before = names[: names.index(setup.name)] if self._scales else []
        return [
            f"{name!r} works on gradients in on_after_backward, before {setup.name!r} has "
            "unscaled them. Let it act in on_before_step."
            for name in before
            if setup.callbacks[name].changes_gradients
            and not hasattr(setup.callbacks[name].on_after_backward, "is_no_op")
        ]

    def on_begin(self, ctx: Context) -> None:
        """Check parameters and device."""
        parameters = [*ctx.module.parameters(), *ctx.criterion.parameters()]
        wrong = {str(p.dtype) for p in parameters if p.requires_grad} - {"torch.float32"}
        if wrong:
            raise ParameterError(
                "MixedPrecision needs float32 parameters: autocast leaves float64 as it is, and "
                "steps are lost in parameters of less. Those of the `module` or `criterion` are "
                f"{', '.join(sorted(wrong))}. Set dtype='float32' on the estimator."
            )
        device, dtype = ctx.device.type, torch.float16 if self._scales else torch.bfloat16
        try:
            self._autocast = torch.autocast(device, dtype)
        except RuntimeError as error:
            raise ParameterError(
                f"MixedPrecision cannot use {dtype} on the device {ctx.device}: {error}"
            ) from error
        self._open = contextlib.ExitStack()
        self._scaling = None
        if self._scales:
            self._scaling = _Scaling(device, float(self.init_scale), int(self.growth_interval))

    def on_batch_begin(self, ctx: Context) -> None:
        """Compute what follows in the lower precision."""
        self._open.enter_context(self._autocast)

    on_batch_valid_begin = on_batch_begin

    def on_after_loss(self, ctx: Context) -> None:
        """End the lower precision: autocast is not for the backward pass."""
        self._open.close()

    on_batch_valid_after_loss = on_after_loss

    def on_before_backward(self, ctx: Context) -> None:
        """Scale the loss."""
        if self._scaling is not None:
            ctx.loss = self._scaling.scaler.scale(ctx.loss)

    def on_after_backward(self, ctx: Context) -> None:
        """Unscale the gradients that are complete, or drop them if they overflowed."""
        if self._scaling is None or ctx.step_skipped:
            return
        if not self._scaling.unscale(ctx.optimizer):
            ctx.optimizer.zero_grad()
            ctx.skip_step()

    def on_batch_exit(self, ctx: Context) -> None:
        """End the lower precision whatever happened, and scale gradients that were kept."""
        self._open.close()
        if self._scaling is not None:
            self._scaling.scale_kept(ctx.optimizer)

    def on_phase_exit(self, ctx: Context) -> None:
        """Record how many steps of the training phase were left out."""
        if self._scaling is not None and ctx.training:
            ctx.log("skipped_steps", self._scaling.end_epoch())

    def on_end(self, ctx: Context) -> None:
        """Warn if the last epoch changed nothing."""
        if self._scaling is not None and self._scaling.idle:
            warnings.warn(
                "MixedPrecision left out all steps of the last epoch: their gradients were not "
                "finite in float16. Where the fit is too short for the scale to fall, use a "
                "smaller init_scale; else dtype='bfloat16'.",
                ConvergenceWarning,
                stacklevel=2,
            )
            self._scaling.idle = False

    def on_exit(self, ctx: Context) -> None:
        """Keep nothing of torch's."""
        for name in ("_autocast", "_open", "_scaling"):
            self.__dict__.pop(name, None)

    def state_dict(self) -> dict[str, Any] | None:
        """Return scale and counts, for float16."""
        return None if self._scaling is None else self._scaling.state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the scale of an earlier fit."""
        if self._scaling is not None:
            self._scaling.load(state)


class _Scaling:
    """Torch's scaler, with the counts of steps that it left out."""

    def __init__(self, device: str, init_scale: float, growth_interval: int) -> None:
        self.scaler = torch.amp.GradScaler(
            device, init_scale=init_scale, growth_interval=growth_interval
        )
        self.unscaled = self.idle = False
        self.n_skipped = self.n_skipped_before = self.n_steps = 0

    def unscale(self, optimizer: Any) -> bool:
        """Unscale the gradients, adapt the scale, and tell whether all are finite."""
        gradients: Any = _Gradients(optimizer.param_groups)
        self.scaler.unscale_(gradients)
        self.scaler.step(gradients)  # waits for the device: the loop must know
        self.scaler.update()
        self.unscaled = True
        self.n_steps += 1
        self.n_skipped += not gradients.finite
        return gradients.finite

    def scale_kept(self, optimizer: Any) -> None:
        """Scale unscaled gradients that are still there: scaled ones will be added to them.

        They were left by a cancelled step, or by a do_zero_grad.
        """
        if not self.unscaled:
            return
        self.unscaled = False
        scale = None
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            if parameter.grad is not None:
                if scale is None:
                    scale = self.scaler.scale(torch.ones((), device=parameter.device))
                parameter.grad.mul_(scale)

    def end_epoch(self) -> int:
        """Return the number of steps that were left out since it was called last."""
        n_skipped = self.n_skipped - self.n_skipped_before
        self.idle = 0 < self.n_steps == n_skipped
        self.n_skipped_before, self.n_steps = self.n_skipped, 0
        return n_skipped

    def state(self) -> dict[str, Any]:
        scaler = self.scaler.state_dict()
        state = {
            "scale": scaler["scale"],
            "growth_tracker": scaler["_growth_tracker"],
            "n_skipped": self.n_skipped,
        }
        if self.n_steps or self.idle:  # of the epoch that is under way, or has just ended
            state["n_skipped_before"] = self.n_skipped_before
            state |= {"n_steps": self.n_steps, "idle": self.idle}
        return state

    def load(self, state: dict[str, Any]) -> None:
        learned = {"scale": state["scale"], "_growth_tracker": state["growth_tracker"]}
        self.scaler.load_state_dict({**self.scaler.state_dict(), **learned})
        self.n_skipped = state["n_skipped"]
        self.n_skipped_before = state.get("n_skipped_before", self.n_skipped)
        self.n_steps, self.idle = state.get("n_steps", 0), state.get("idle", False)


class _Gradients:
    """Stands in the optimizer's place before the scaler, which steps only where all is finite."""

    def __init__(self, param_groups: list[dict[str, Any]]) -> None:
        self.param_groups = param_groups
        self.finite = False

    def step(self) -> None:
        self.finite = True
