"""A callback says which of its stages would do nothing, and the loop does not call them."""

import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn
from training.fast.ways import at, bits

from skorchlike import (
    Callback,
    Checkpoint,
    LRScheduler,
    Metrics,
    NeuralNetClassifier,
    ParameterError,
    ParamScheduler,
    TensorBoard,
    TimeLimit,
    explain,
)

X, Y = (part[::3] for part in load_iris(return_X_y=True))
LAST = float("inf")

METRICS = {"metrics": ["f1_macro", "balanced_accuracy"]}
COSINE = {"policy": "cosine"}
# with these nothing is done in training batches
QUIET = {
    "lr_scheduler": (LRScheduler, {**COSINE, "unit": "epoch"}),
    "param_scheduler": (ParamScheduler, {"unit": "epoch"}),
    "metrics": (Metrics, {**METRICS, "on": "valid"}),
    "time_limit": (TimeLimit, {"seconds": 1000, "when": "epoch"}),
}
# with these something is; the stage
ACTING = {
    "lr_scheduler": (LRScheduler, {**COSINE, "unit": "batch"}, "on_after_step"),
    "param_scheduler": (ParamScheduler, {"unit": "batch"}, "on_batch_begin"),
    "metrics of training": (Metrics, {**METRICS, "on": "train"}, "on_batch_end"),
    "metrics": (Metrics, {**METRICS, "on": "both"}, "on_batch_end"),
    "time_limit": (TimeLimit, {"seconds": 1000, "when": "batch"}, "on_batch_end"),
}
ALL = [*QUIET.values(), *(case[:2] for case in ACTING.values())]
IDS = [f"{cls.__name__} {list(params.values())[-1]}" for cls, params in ALL]


def net(callback=None, **params):
    said = {"batch_size": 8, "max_epochs": 4, "random_state": 0, "validation_fraction": 0.2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    callbacks = {} if callback is None else {"tried": callback}
    return NeuralNetClassifier(module, callbacks=callbacks, **{**said, **params})


class CalledLR(LRScheduler):
    idle_stages = ()


class CalledParam(ParamScheduler):
    idle_stages = ()


class CalledMetrics(Metrics):
    idle_stages = ()


class CalledTimeLimit(TimeLimit):
    idle_stages = ()


# the same callbacks, with all their stages called
CALLED = {cls.__base__: cls for cls in (CalledLR, CalledParam, CalledMetrics, CalledTimeLimit)}


def left_by(fitted):
    state = getattr(fitted.model_.callbacks_, "tried", None)
    return {**bits(fitted), "state": repr(state), "columns": [*fitted.history_]}


# ------------------------------------------------------------- what is done stays the same


@pytest.mark.parametrize(("cls", "params"), QUIET.values(), ids=QUIET)
def test_a_callback_with_nothing_to_do_in_batches_keeps_the_fastest_step(cls, params):
    assert net(cls(**params)).fit(X, Y).model_.path_ == "hand-written"
    assert net(CALLED[cls](**params)).fit(X, Y).model_.path_ == "direct"


@pytest.mark.parametrize(("cls", "params", "stage"), ACTING.values(), ids=ACTING)
def test_one_that_acts_in_batches_is_called_there(cls, params, stage):
    model = net(cls(**params)).fit(X, Y).model_
    assert model.path_ == "direct"
    assert model.path_reason_ == f"the callback 'tried' ({cls.__name__}) acts in {stage}"


@pytest.mark.parametrize(("cls", "params"), ALL, ids=IDS)
def test_a_fit_leaves_what_it_leaves_with_all_stages_called(cls, params):
    expected = left_by(net(CALLED[cls](**params)).fit(X, Y))
    assert left_by(net(cls(**params)).fit(X, Y)) == expected
    without = bits(net().fit(X, Y))
    assert (expected["epoch 3 lr"] != without["epoch 3 lr"]) == hasattr(cls(**params), "unit")


@pytest.mark.parametrize(("cls", "params"), ALL, ids=IDS)
@pytest.mark.parametrize("max_epochs", [2, 4])
def test_a_fit_that_goes_on_leaves_the_same(cls, params, max_epochs):
    def twice(callback):
        fresh = net(callback, warm_start=True, max_epochs=2)
        return fresh.fit(X, Y).set_params(max_epochs=max_epochs).fit(X, Y)

    assert left_by(twice(cls(**params))) == left_by(twice(CALLED[cls](**params)))


@pytest.mark.parametrize(("cls", "params"), ALL, ids=IDS)
def test_a_callback_that_comes_to_a_fit_that_goes_on_leaves_the_same(cls, params):
    def later(callback):
        fresh = net(warm_start=True).fit(X, Y)
        return fresh.fit(X, Y, callbacks={"tried": callback})

    one = later(cls(**params))
    assert left_by(one) == left_by(later(CALLED[cls](**params)))
    changed = one.history_["lr"].nunique() > 1
    assert changed == issubclass(cls, (LRScheduler, ParamScheduler))


@pytest.mark.parametrize(("cls", "params"), ALL, ids=IDS)
@pytest.mark.parametrize("stage", ["on_batch_exit", "on_epoch_end"])
def test_a_resumed_fit_leaves_the_same_as_one_that_was_not_interrupted(
    cls, params, stage, tmp_path
):
    def stop(ctx):
        if ctx.epoch == 2 and (stage == "on_epoch_end" or (ctx.training and ctx.step == 2)):
            raise InterruptedError

    callback = cls(**params)
    saving = {
        "checkpoint": Checkpoint(tmp_path, unit="batch"),
        "stop": at(order=LAST, passive=True, **{stage: stop}),
    }
    with pytest.raises(InterruptedError):
        net(callback).fit(X, Y, callbacks=saving)
    assert left_by(net(callback).fit(X, Y, resume=tmp_path)) == left_by(
        net(CALLED[cls](**params)).fit(X, Y)
    )


def interrupted_in_validation(callback, then):
    """Break a fit off in a validation phase; go on with other parameters of the callback."""

    def press(ctx):
        if not ctx.training and ctx.epoch == 2:
            raise KeyboardInterrupt

    fresh = net(callback, warm_start=True, max_epochs=4)
    late = at(order=LAST, passive=True, on_batch_valid_end=press)
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X, Y, callbacks={"press": late})
    return fresh.set_params(**then).fit(X, Y)


@pytest.mark.parametrize("then", ["valid", "train", "both"])
@pytest.mark.parametrize("before", ["valid", "both"])
def test_rows_of_a_validation_that_was_broken_off_get_into_no_other_phase(before, then):
    said = {"callbacks__tried__on": then, "valid_every": 4}
    one, other = (
        interrupted_in_validation(cls(METRICS["metrics"], on=before), said)
        for cls in (Metrics, CalledMetrics)
    )
    assert left_by(one) == left_by(other)
    later = [record for record in one.model_.history_ if record["epoch"] > 2]
    assert len(later) == 4
    for record in later:
        due = "valid_loss" in record and then != "train"
        assert ("valid_f1_macro" in record) == due, record
        assert ("train_f1_macro" in record) == (then != "valid"), record


@pytest.mark.parametrize("cls", [LRScheduler, ParamScheduler])
@pytest.mark.parametrize("units", [("epoch", "batch"), ("batch", "epoch")])
@pytest.mark.filterwarnings("ignore:The lr or the parameters of LRScheduler:UserWarning")
def test_a_fit_that_goes_on_by_the_other_unit_leaves_the_same(cls, units):
    def turns(cls):
        fresh = net(cls(unit=units[0]), warm_start=True)
        fresh.fit(X, Y).set_params(callbacks__tried__unit=units[1])
        return fresh.fit(X, Y)

    one, called = turns(cls), turns(CALLED[cls])
    assert left_by(one) == left_by(called)
    assert one.model_.path_ == ("direct" if units[1] == "batch" else "hand-written")


# ------------------------------------------------------------------------------ what is told


@pytest.mark.parametrize("name", [n for n in ACTING if n in QUIET])
def test_explain_shows_the_stages_that_are_called(name):
    cls, params, stage = ACTING[name]
    told, quiet = explain(net(cls(**params))), explain(net(QUIET[name][0](**QUIET[name][1])))
    assert told.stages["tried"].xs(stage, level="stage").item() > 0
    assert quiet.stages["tried"].xs(stage, level="stage").item() == 0
    assert f"acts in {stage}" in told.path
    assert quiet.path.startswith("hand-written")


def test_explain_tells_what_the_loop_calls():
    called = set()

    class Listens(Callback):
        passive = True

        def wrap_call(self, owner, place, call):
            if owner == "tried":
                called.add(place)
            return call

    for cls, params in ALL:
        called.clear()
        column = explain(net(cls(**params))).stages["tried"]
        net(cls(**params)).fit(X, Y, callbacks={"listens": Listens()})
        shown = column[column > 0].index.get_level_values("stage")
        assert called == set(shown), (cls, params)


def test_tensorboard_that_writes_nothing_of_batches_leaves_them_alone():
    idle = [TensorBoard(), TensorBoard(histograms="*"), TensorBoard(every=2)]
    acting = [TensorBoard(unit="batch"), TensorBoard(histograms="*", gradients=True)]
    assert {callback.idle_stages for callback in idle} == {("on_batch_end",)}
    assert {callback.idle_stages for callback in acting} == {()}
    assert Callback().idle_stages == ()


# ------------------------------------------------------------------------ of one's own


class Own(Callback):
    """Write down at which stages it is called."""

    def __init__(self, seen, idle=()):
        self.seen = seen
        self.idle = idle

    @property
    def idle_stages(self):
        return self.idle

    def __sklearn_clone__(self):
        return type(self)(self.seen, self.idle)  # the same list

    def on_epoch_end(self, ctx):
        self.seen.add("on_epoch_end")

    def on_batch_end(self, ctx):
        self.seen.add("on_batch_end")

    def on_batch_valid_end(self, ctx):
        self.seen.add("on_batch_valid_end")

    def on_batch_predict_end(self, ctx):
        self.seen.add("on_batch_predict_end")


STAGES_OF_OWN = {"on_epoch_end", "on_batch_end", "on_batch_valid_end", "on_batch_predict_end"}


@pytest.mark.parametrize("idle", [(), *((stage,) for stage in sorted(STAGES_OF_OWN))])
def test_a_users_callback_is_not_called_at_the_stages_that_it_names(idle):
    seen = set()
    net(Own(seen, idle)).fit(X, Y).predict(X)
    assert seen == STAGES_OF_OWN - set(idle)


def test_parameters_that_the_estimator_routes_are_those_that_count():
    seen = set()
    fresh = net(Own(seen, ("on_batch_end", "on_batch_predict_end")))
    assert fresh.fit(X, Y).model_.path_ == "hand-written"
    fresh.set_params(callbacks__tried__idle=())
    assert fresh.fit(X, Y).model_.path_ == "direct"
    fresh.predict(X)
    assert seen == STAGES_OF_OWN


def test_a_predict_stage_counts_by_the_parameters_that_are_given_by_name():
    seen = set()
    fresh = NeuralNetClassifier(
        callbacks=[("tried", Own(seen, ("on_batch_predict_end",)))], callbacks__tried__idle=()
    )
    fresh.fit(X, Y).predict(X)
    assert "on_batch_predict_end" in seen


def test_a_list_of_stages_will_do_and_stages_that_it_does_not_define_too():
    seen = set()
    fresh = net(Own(seen, ["on_batch_end", "on_before_step"])).fit(X, Y)
    assert fresh.model_.path_ == "hand-written"
    assert seen == {"on_epoch_end", "on_batch_valid_end"}


@pytest.mark.parametrize(
    ("idle", "what"),
    [
        (("on_batch_ended",), "names of stages. Got 'on_batch_ended'. Did you mean 'on_batch_end'"),
        (("do_step",), "names of stages. Got 'do_step'."),
        (("state_dict",), "names of stages. Got 'state_dict'."),
        ((1,), "names of stages. Got 1."),
        ("on_batch_end", "a tuple of names of stages. Got 'on_batch_end'."),
        (None, "a tuple of names of stages. Got None."),
    ],
)
def test_what_is_no_name_of_a_stage_is_an_error_before_training(idle, what):
    seen = set()
    with pytest.raises(ParameterError) as caught:
        net(Own(seen, idle)).fit(X, Y)
    who = "`idle_stages` of the callback 'tried' (Own) must be "
    assert str(caught.value).startswith(who + what)
    assert not seen


@pytest.mark.parametrize(("cls", "params"), QUIET.values(), ids=QUIET)
def test_what_a_subclass_does_at_an_idle_stage_of_its_base_class_is_done(cls, params):
    seen = set()
    idle = cls(**params).idle_stages

    def define(stage):
        def method(self, ctx):
            seen.add(stage)
            getattr(cls, stage)(self, ctx)

        return method

    own = type("Derived", (cls,), {stage: define(stage) for stage in idle})
    further = type("Further", (own,), {})
    for derived in (own, further):
        seen.clear()
        assert net(derived(**params)).fit(X, Y).model_.path_ == "direct"
        assert seen == set(idle)


def test_a_subclass_may_name_its_own_stages():
    class Named(CalledTimeLimit):
        idle_stages = ("on_batch_end",)

        def on_batch_end(self, ctx):
            raise AssertionError

    assert net(Named(1000)).fit(X, Y).model_.path_ == "hand-written"


def test_a_method_put_on_the_object_is_called():
    class Late(TimeLimit):
        def __sklearn_clone__(self):
            fresh = type(self)(self.seconds, self.when)
            fresh.on_batch_end = lambda ctx: seen.append(ctx.step)
            return fresh

    seen = []
    assert net(Late(1000, "epoch"), max_epochs=1).fit(X, Y).model_.path_ == "direct"
    assert seen == [1, 2, 3, 4, 5]
