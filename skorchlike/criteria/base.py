"""What the criteria of this room share: the reduction, and outputs sorted by target."""

from __future__ import annotations

from torch import Tensor, nn

from skorchlike.exceptions import ParameterError

REDUCTIONS = ("mean", "sum", "none")


class RegressionCriterion(nn.Module):
    """A criterion that tells how predictions are made of the module's outputs.

    A criterion of one's own may do so too: it needs no base class, only those of these
    attributes that differ from a plain loss.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default="mean"
        ``"none"`` returns a loss for each row and target; weights are applied to these.

    Attributes
    ----------
    n_outputs_per_target : int
        How many outputs the module has for each column of the target. Those of one target
        lie beside one another.
    """

    n_outputs_per_target = 1

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ParameterError(
                f"The `reduction` of {type(self).__name__} must be one of {REDUCTIONS}. Got "
                f"{reduction!r}."
            )
        self.reduction = reduction

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the prediction for each target.

        Parameters
        ----------
        outputs : Tensor of shape (n, n_targets * n_outputs_per_target)
            What the module returned.

        Returns
        -------
        Tensor of shape (n, n_targets)
            The predictions.
        """
        return outputs

    def by_target(self, outputs: Tensor) -> Tensor:
        """Return outputs as a tensor of shape (n, n_targets, n_outputs_per_target)."""
        return outputs.reshape(len(outputs), -1, self.n_outputs_per_target)

    def reduced(self, losses: Tensor) -> Tensor:
        """Return the losses as `reduction` has it."""
        if self.reduction == "none":
            return losses
        return losses.sum() if self.reduction == "sum" else losses.mean()

    def extra_repr(self) -> str:
        """Return what the printed criterion shows."""
        return f"reduction={self.reduction!r}"
