"""Fast ways through a training step, beside the loop, which chooses one once a fit.

They do what the loop and its default actions do, with the same kernels in the same order; where a
callback, a replaced action, an option of the optimizer or a hook wants to be in between, the
general way is taken.

- ``direct``: the loop as it is, with the actions backward, step and zero_grad replaced by direct
  calls of the kernels that torch ends up in.
- ``hand-written``: the whole step, without autograd, where no callback acts in a batch and the
  module is linear layers with activations between them.
"""

from skorchlike.training.fast.path import BY_HAND, DIRECT, GENERAL, Path, choose_path, obstacles
from skorchlike.training.fast.updates import why_not

__all__ = ["BY_HAND", "DIRECT", "GENERAL", "Path", "choose_path", "obstacles", "why_not"]
