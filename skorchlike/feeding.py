"""What gives the rows of a fit, and what is learned of its inputs."""

from __future__ import annotations

from typing import Any

from skorchlike.data.batches import Batching, FitData
from skorchlike.data.feeds import ArrayFeed, LoaderFeed
from skorchlike.data.inputs import Inputs, check_can_transform
from skorchlike.data.loading import is_loader
from skorchlike.model.trained import TrainedModel
from skorchlike.params.components import follows_input_dtype


def make_feed(estimator: Any, data: FitData, split_seed: int) -> Any:
    """Return what gives the rows of a fit."""
    names = set(Batching.__annotations__) - {"train_options", "valid_options"}
    how = Batching(
        **{name: getattr(estimator, name) for name in names},
        train_options=estimator._said_to("train_loader"),
        valid_options=estimator._said_to("valid_loader"),
    )
    cls = LoaderFeed if is_loader(data.X) else ArrayFeed
    return cls(data, how, split_seed, estimator._encode_target)


def learn_inputs_of(estimator: Any, feed: Any, continued: TrainedModel | None) -> Inputs:
    """Learn what the inputs are, or take it up from the fit that is continued."""
    built_in = estimator.module is None or follows_input_dtype(estimator.module)
    transform = estimator.numeric_transform
    if isinstance(transform, str) and transform == "auto":
        transform = "standard" if built_in else None
    else:
        shown = feed.data.first_inputs
        check_can_transform(feed.data.X if shown is None else shown, transform)
    return feed.learn(None if continued is None else continued.inputs_, transform, built_in)
