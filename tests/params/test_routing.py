"""Parameters of the form ``component__name``: what is said, got, set, cloned."""

import inspect

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from torch import nn

from skorchlike import Callback, EarlyStopping, NeuralNetClassifier, ParameterError
from skorchlike.params.routing import RoutedParams, snake_case

X, Y = load_iris(return_X_y=True)


class Logger(Callback):
    """Its state tells by which parameters it ran."""

    def __init__(self, alpha=0.1, note="none"):
        self.alpha = alpha
        self.note = note

    def state_dict(self):
        return {"alpha": self.alpha, "note": self.note}

    def load_state_dict(self, state):
        pass


class Counter(Callback):
    def __init__(self, start=0):
        self.start = start

    def state_dict(self):
        return {"start": self.start}

    def load_state_dict(self, state):
        pass


class Policy(RoutedParams):
    def __init__(self, gamma=0.5):
        self.gamma = gamma


class Scheduler(Callback):
    """A callback that has routed components of its own."""

    _components = ("policy",)

    def __init__(self, policy="step", **routed):
        self.policy = policy
        self._say(routed)

    def state_dict(self):
        return {"policy": self.policy, **self._said}

    def load_state_dict(self, state):
        pass


class Tuned(NeuralNetClassifier):
    """A subclass with a parameter of its own that forwards the rest."""

    def __init__(self, module=None, *, temperature=1.0, **kwargs):
        super().__init__(module, **kwargs)
        self.temperature = temperature


class TunedTwice(Tuned):
    def __init__(self, *, bias=0, **kwargs):
        super().__init__(**kwargs)
        self.bias = bias


class Plain(NeuralNetClassifier):
    """A subclass without an ``__init__``."""


def net(**params):
    return NeuralNetClassifier(**{"max_epochs": 1, "random_state": 0, **params})


def states(estimator):
    return dict(estimator.fit(X, Y).model_.callbacks_)


# ------------------------------------------------------------------ constructor


def test_signature_shows_no_routed_and_no_args():
    for cls in (NeuralNetClassifier, Tuned, TunedTwice, Plain, Scheduler):
        kinds = {p.kind for p in inspect.signature(cls.__init__).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def test_module_is_the_only_positional_parameter():
    assert NeuralNetClassifier("mlp").module == "mlp"
    with pytest.raises(TypeError):
        NeuralNetClassifier("mlp", "cross_entropy")


def test_constructor_stores_the_very_objects_given():
    callbacks, module, hidden = {"logger": Logger()}, nn.Linear(4, 3), [5]
    est = net(module=module, callbacks=callbacks, optimizer__betas=hidden)
    assert est.module is module
    assert est.callbacks is callbacks
    assert est.get_params()["optimizer__betas"] is hidden


def test_constructor_sets_a_part_after_its_whole_whatever_the_order_written():
    est = net(
        callbacks__logger__alpha=0.7,
        callbacks__logger=Logger(0.5, "replaced"),
        callbacks={"logger": Logger(0.3)},
    )
    assert states(est) == {"logger": {"alpha": 0.7, "note": "replaced"}}


# ------------------------------------------------------------------- get_params


def test_get_params_shallow_has_own_and_said_parameters_only():
    est = net(callbacks={"logger": Logger()}, callbacks__logger__alpha=0.7, module__dropout=0.1)
    shallow = est.get_params(deep=False)
    assert shallow["callbacks__logger__alpha"] == 0.7
    assert shallow["module__dropout"] == 0.1
    routed = {name for name in shallow if "__" in name}
    assert routed == {"callbacks__logger__alpha", "module__dropout"}


def test_get_params_deep_adds_the_callbacks_and_their_present_values():
    logger = Logger(alpha=0.3)
    est = net(callbacks={"logger": logger}, callbacks__logger__note="said")
    deep = est.get_params(deep=True)
    assert deep["callbacks__logger"] is logger
    assert deep["callbacks__logger__alpha"] == 0.3
    assert deep["callbacks__logger__note"] == "said"


def test_get_params_deep_shows_what_replaced_a_callback_and_what_was_dropped():
    counter = Counter(4)
    est = net(callbacks={"a": Logger(), "b": Logger()}, callbacks__a=counter, callbacks__b=None)
    deep = est.get_params(deep=True)
    assert deep["callbacks__a"] is counter
    assert deep["callbacks__a__start"] == 4
    assert deep["callbacks__b"] is None
    assert not any(name.startswith(("callbacks__a__alpha", "callbacks__b__")) for name in deep)


@pytest.mark.parametrize(
    "callbacks",
    [
        {"logger": Logger(0.3)},
        [("logger", Logger(0.3))],
        [Logger(0.3)],
        (Logger(0.3),),
    ],
    ids=["dict", "pairs", "list", "tuple"],
)
def test_callbacks_in_every_form_have_routed_parameters(callbacks):
    est = net(callbacks=callbacks, callbacks__logger__note="x")
    assert est.get_params()["callbacks__logger__alpha"] == 0.3
    assert states(est) == {"logger": {"alpha": 0.3, "note": "x"}}
    assert states(clone(est)) == {"logger": {"alpha": 0.3, "note": "x"}}


def test_registered_names_stand_for_callbacks_with_routed_parameters():
    est = net(callbacks=["early_stopping"], callbacks__early_stopping__patience=2)
    assert est.get_params()["callbacks__early_stopping__patience"] == 2
    assert est.get_params()["callbacks__early_stopping__monitor"] == "valid_loss"
    est.set_params(callbacks__early_stopping__monitor="train_loss")
    assert states(est)["early_stopping"]["best_epoch"] == 1


@pytest.mark.parametrize("garbage", [-1, np.arange(3), "x", [3], {"a": 1}, float("inf")], ids=repr)
def test_get_params_and_repr_stand_garbage_in_callbacks(garbage):
    est = net(callbacks=garbage)
    assert est.get_params()["callbacks"] is garbage
    assert "NeuralNetClassifier" in repr(est)
    est.set_params(callbacks=None)
    assert est.fit(X, Y).n_iter_ == 1


def test_set_params_of_get_params_changes_nothing():
    est = net(callbacks={"logger": Logger()}, callbacks__logger__alpha=0.7, optimizer__lr=0.1)
    for deep in (False, True):
        before = est.get_params(deep=deep)
        after = est.set_params(**before).get_params(deep=deep)
        assert list(before) == list(after)
        assert all(before[name] is after[name] for name in before)


# ------------------------------------------------------------- the last word wins

SEQUENCES = {
    "part-after-whole": (
        [{"callbacks": {"logger": Logger(0.3)}}, {"callbacks__logger__alpha": 0.7}],
        {"logger": {"alpha": 0.7, "note": "none"}},
    ),
    "whole-drops-parts-said-earlier": (
        [
            {"callbacks": {"logger": Logger(0.3)}, "callbacks__logger__alpha": 0.7},
            {"callbacks": {"logger": Logger(0.4)}},
        ],
        {"logger": {"alpha": 0.4, "note": "none"}},
    ),
    "whole-drops-a-replacement-said-earlier": (
        [
            {"callbacks": {"logger": Logger(0.3)}, "callbacks__logger": Counter()},
            {"callbacks": {"logger": Logger(0.4)}},
        ],
        {"logger": {"alpha": 0.4, "note": "none"}},
    ),
    "replacing-drops-its-parameters": (
        [
            {"callbacks": {"logger": Logger()}, "callbacks__logger__alpha": 0.7},
            {"callbacks__logger": Logger(0.2)},
        ],
        {"logger": {"alpha": 0.2, "note": "none"}},
    ),
    "replacing-leaves-the-others": (
        [
            {"callbacks": {"a": Logger(), "b": Logger()}, "callbacks__b__alpha": 0.7},
            {"callbacks__a": Logger(0.2)},
        ],
        {"a": {"alpha": 0.2, "note": "none"}, "b": {"alpha": 0.7, "note": "none"}},
    ),
    "name-that-begins-alike-is-another": (
        [
            {"callbacks": {"log": Logger(), "logger": Logger()}, "callbacks__logger__alpha": 0.7},
            {"callbacks__log": Logger(0.2)},
        ],
        {"log": {"alpha": 0.2, "note": "none"}, "logger": {"alpha": 0.7, "note": "none"}},
    ),
    "whole-before-part-within-one-call": (
        [{"callbacks__logger__alpha": 0.7, "callbacks": {"logger": Logger(0.3)}}],
        {"logger": {"alpha": 0.7, "note": "none"}},
    ),
    "three-levels-within-one-call": (
        [
            {
                "callbacks__logger__start": 7,
                "callbacks__logger": Counter(3),
                "callbacks": {"logger": Logger(0.3)},
            }
        ],
        {"logger": {"start": 7}},
    ),
    "replaced-by-another-class": (
        [{"callbacks": {"logger": Logger()}}, {"callbacks__logger": Counter(5)}],
        {"logger": {"start": 5}},
    ),
    "replaced-by-a-registered-name": (
        [
            {"callbacks": {"a": Logger(), "b": Counter()}},
            {"callbacks__a": "print_log", "callbacks__a__sink": str},
        ],
        {"b": {"start": 0}},
    ),
    "dropped-by-None": (
        [{"callbacks": {"a": Logger(), "b": Counter()}}, {"callbacks__a": None}],
        {"b": {"start": 0}},
    ),
    "dropped-by-passthrough": (
        [{"callbacks": {"a": Logger(), "b": Counter()}}, {"callbacks__a": "passthrough"}],
        {"b": {"start": 0}},
    ),
    "dropping-drops-its-parameters": (
        [
            {"callbacks": {"a": Logger(), "b": Counter()}, "callbacks__a__alpha": 0.7},
            {"callbacks__a": None},
        ],
        {"b": {"start": 0}},
    ),
    "dropped-and-taken-back": (
        [
            {"callbacks": {"a": Logger()}},
            {"callbacks__a": None},
            {"callbacks__a": Logger(0.9), "callbacks__a__note": "back"},
        ],
        {"a": {"alpha": 0.9, "note": "back"}},
    ),
    "last-of-two-values": (
        [
            {"callbacks": {"a": Logger()}},
            {"callbacks__a__alpha": 0.5},
            {"callbacks__a__alpha": 0.6},
        ],
        {"a": {"alpha": 0.6, "note": "none"}},
    ),
    "component-of-a-callback": (
        [
            {"callbacks": {"schedule": Scheduler()}},
            {"callbacks__schedule__policy__gamma": 0.25},
        ],
        {"schedule": {"policy": "step", "policy__gamma": 0.25}},
    ),
    "whole-within-a-callback-drops-its-parts": (
        [
            {"callbacks": {"schedule": Scheduler()}},
            {"callbacks__schedule__policy__gamma": 0.25},
            {"callbacks__schedule__policy": "cosine"},
        ],
        {"schedule": {"policy": "cosine"}},
    ),
    "none-drops-all": (
        [{"callbacks": {"a": Logger()}, "callbacks__a__alpha": 0.7}, {"callbacks": None}],
        {},
    ),
}


@pytest.mark.parametrize(("calls", "expected"), SEQUENCES.values(), ids=SEQUENCES.keys())
def test_the_last_word_wins_and_fit_builds_from_it(calls, expected):
    est = net()
    for said in calls:
        assert est.set_params(**said) is est
    assert states(est) == expected
    assert states(clone(est)) == expected
    assert states(net(**est.get_params(deep=False))) == expected


@pytest.mark.parametrize("component", ["module", "criterion", "optimizer"])
def test_setting_a_component_drops_what_was_said_beneath_it(component):
    said = {"module": "dropout", "criterion": "label_smoothing", "optimizer": "weight_decay"}
    routed = {f"{name}__{parameter}": 0.1 for name, parameter in said.items()}
    same = {"module": "mlp", "criterion": "cross_entropy", "optimizer": "adamw"}
    est = net(**routed)
    est.set_params(**{component: same[component]})
    left = {name for name in est.get_params(deep=False) if "__" in name}
    assert left == set(routed) - {f"{component}__{said[component]}"}


def test_optimizer_lr_beats_lr_whatever_is_said_last():
    def used(est):
        return est.fit(X, Y).model_.optimizer_["param_groups"][0]["lr"]

    assert used(net(lr=0.5)) == 0.5
    assert used(net(lr=0.5, optimizer__lr=0.25)) == 0.25
    assert used(net(optimizer__lr=0.25).set_params(lr=0.5)) == 0.25
    assert used(net(optimizer__lr=0.25).set_params(optimizer="sgd", lr=0.5)) == 0.5


# ----------------------------------------------------------- what stays untouched


def everything(est):
    return joblib.hash([est.get_params(deep=False), sorted(vars(est))])


BAD_CALLS = {
    "name": {"lr": 0.5, "max_epoch": 3},
    "prefix": {"callbacks": None, "modul__x": 1},
    "callback": {"callbacks__logger__alpha": 0.9, "callbacks__loger__alpha": 1},
    "callback-parameter": {"module": "mlp", "callbacks__logger__alpa": 1},
    "part-of-the-new-whole": {
        "callbacks": {"other": Counter()},
        "callbacks__logger__alpha": 1,
        "lr": 0.5,
    },
}


@pytest.mark.parametrize("said", BAD_CALLS.values(), ids=BAD_CALLS.keys())
@pytest.mark.parametrize("routed", [{}, {"callbacks__logger__note": "n", "module__dropout": 0.1}])
def test_set_params_that_fails_changes_nothing(said, routed):
    est = net(callbacks={"logger": Logger()}, **routed)
    before = everything(est)
    with pytest.raises(ParameterError):
        est.set_params(**said)
    assert everything(est) == before


def test_objects_given_are_never_touched():
    torch.manual_seed(0)
    given = {
        "module": nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)),
        "criterion": nn.CrossEntropyLoss(weight=torch.ones(3)),
        "callbacks": {"logger": Logger(), "stop": EarlyStopping("train_loss", patience=1)},
    }
    extra = {"counter": Counter()}
    replacement = Counter(3)
    before = joblib.hash([given, extra, replacement])
    est = net(**given, max_epochs=3, callbacks__logger__alpha=0.7, callbacks__stop__patience=2)
    est.fit(X, Y, callbacks=extra)
    est.set_params(callbacks__logger=replacement, callbacks__logger__start=8).fit(X, Y)
    est.partial_fit(X, Y)
    est.predict(X)
    clone(est)
    assert joblib.hash([given, extra, replacement]) == before
    assert given["module"].training
    assert all(p.grad is None for p in given["module"].parameters())


def test_fit_changes_no_parameter():
    est = net(callbacks={"logger": Logger()}, callbacks__logger__alpha=0.7, random_state=3)
    before = est.get_params(deep=True)
    after = est.fit(X, Y).get_params(deep=True)
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)


def test_clone_shares_nothing_with_the_original():
    logger = Logger()
    est = net(callbacks={"logger": logger}, callbacks__logger__note=["shared"])
    copied = clone(est)
    assert copied.callbacks["logger"] is not logger
    copied.callbacks["logger"].alpha = 9
    copied.get_params()["callbacks__logger__note"].append("more")
    assert logger.alpha == 0.1
    assert est.get_params()["callbacks__logger__note"] == ["shared"]


def test_clone_takes_no_fitted_attribute():
    est = net(callbacks={"logger": Logger()}).fit(X, Y)
    assert vars(clone(est)).keys() == vars(net(callbacks={"logger": Logger()})).keys()


# -------------------------------------------------------------------- subclasses


@pytest.mark.parametrize(
    ("cls", "own"),
    [(Tuned, {"temperature": 2.0}), (TunedTwice, {"temperature": 2.0, "bias": 3}), (Plain, {})],
)
class TestSubclassThatForwardsKwargs:
    said = {"lr": 0.5, "callbacks__logger__alpha": 0.7, "module__dropout": 0.1}

    def make(self, cls, own):
        return cls(callbacks={"logger": Logger()}, max_epochs=1, **self.said, **own)

    def test_get_params_has_its_own_and_the_inherited_ones(self, cls, own):
        params = self.make(cls, own).get_params()
        assert {**own, **self.said}.items() <= params.items()
        assert set(NeuralNetClassifier().get_params()) <= set(params)

    def test_clone_keeps_all(self, cls, own):
        copied = clone(self.make(cls, own))
        assert type(copied) is cls
        assert {**own, **self.said}.items() <= copied.get_params().items()

    def test_set_params_sets_all(self, cls, own):
        est = self.make(cls, own)
        changed = {name: value + 1 for name, value in {**own, **self.said}.items()}
        assert changed.items() <= est.set_params(**changed).get_params().items()

    def test_unknown_names_are_refused(self, cls, own):
        with pytest.raises(ParameterError, match=f"{cls.__name__}.*'max_epochs'"):
            cls(max_epoch=3, **own)
        with pytest.raises(ParameterError, match=cls.__name__):
            cls(**own).set_params(temprature=3)

    def test_search_sees_all(self, cls, own):
        grid = {"callbacks__logger__alpha": [0.2, 0.4], **{name: [1, 2] for name in own}}
        search = GridSearchCV(self.make(cls, own), grid, cv=2).fit(X, Y)
        assert len(search.cv_results_["params"]) == 2 ** len(grid)
        best = search.best_estimator_
        assert (
            best.model_.callbacks_.logger["alpha"]
            == search.best_params_["callbacks__logger__alpha"]
        )
        assert all(getattr(best, name) == search.best_params_[name] for name in own)


# --------------------------------------------------------------- any sequence of calls

VALUES = st.sampled_from([0.25, 0.5, 0.75])
WHOLES = st.sampled_from(
    [
        None,
        {"a": Logger(0.3), "b": Counter(1)},
        [("a", Counter(2))],
        [Logger(0.4), Counter(3)],
        {"schedule": Scheduler(), "a": None},
        ["early_stopping"],
    ]
)
PARTS = st.sampled_from([None, "passthrough", Logger(0.9), Counter(9), "print_log"])
SAID = {
    "lr": VALUES,
    "module": st.sampled_from([None, "mlp"]),
    "module__dropout": VALUES,
    "optimizer": st.sampled_from(["adam", "sgd"]),
    "optimizer__lr": VALUES,
    "criterion__label_smoothing": VALUES,
    "callbacks": WHOLES,
    "callbacks__a": PARTS,
    "callbacks__b": PARTS,
    "callbacks__a__alpha": VALUES,
    "callbacks__a__start": VALUES,
    "callbacks__b__start": VALUES,
    "callbacks__logger__alpha": VALUES,
    "callbacks__schedule__policy": st.sampled_from(["step", "cosine"]),
    "callbacks__schedule__policy__gamma": VALUES,
    "callbacks__early_stopping__patience": VALUES,
    "max_epoch": VALUES,
}
CALL = st.lists(st.sampled_from(list(SAID)), min_size=1, max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: SAID[name] for name in names})
)


def comparable(value):
    """Stand-ins for callbacks, which are equal when class and parameters are."""
    if isinstance(value, Callback):
        return type(value).__name__, comparable(value.get_params(deep=False))
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [comparable(item) for item in value]
    return value


def told(calls):
    """What the rules give, written down another way: each name with the time it was said."""
    latest = {}
    for time, said in enumerate(calls):
        latest.update({name: (time, value) for name, value in said.items()})
    return {
        name: value
        for name, (time, value) in latest.items()
        if "__" in name
        and not any(
            when > time for whole, (when, _) in latest.items() if name.startswith(f"{whole}__")
        )
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(CALL, min_size=1, max_size=6))
def test_any_sequence_of_set_params_gives_what_the_rules_say_and_what_a_clone_has(calls):
    est = NeuralNetClassifier()
    taken = []
    for said in calls:
        before = comparable(est.get_params(deep=True))
        try:
            est.set_params(**said)
            taken.append(said)
        except ParameterError:
            assert comparable(est.get_params(deep=True)) == before
    params = est.get_params(deep=False)
    assert comparable({k: v for k, v in params.items() if "__" in k}) == comparable(told(taken))

    for deep in (False, True):
        params = comparable(est.get_params(deep=deep))
        assert comparable(clone(est).get_params(deep=deep)) == params
    rebuilt = NeuralNetClassifier(**est.get_params(deep=False))
    assert comparable(rebuilt.get_params()) == comparable(est.get_params())


# ------------------------------------------------------------------------ snake case


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EMALogger", "ema_logger"),
        ("EarlyStopping", "early_stopping"),
        ("Progress", "progress"),
        ("LRFinder", "lr_finder"),
        ("L1Loss", "l1_loss"),
        ("BCEWithLogitsLoss", "bce_with_logits_loss"),
        ("printer", "printer"),
        ("Top5Accuracy", "top5_accuracy"),
    ],
)
def test_snake_case(name, expected):
    assert snake_case(name) == expected


class Mixin:
    """A class that knows nothing of estimators and forwards what it does not know."""

    def __init__(self, *, extra=1, **kwargs):
        super().__init__(**kwargs)
        self.extra = extra


class WithMixin(Mixin, NeuralNetClassifier):
    pass


class OverMixin(Mixin, NeuralNetClassifier):
    def __init__(self, own=1, **kwargs):
        super().__init__(**kwargs)
        self.own = own


@pytest.mark.parametrize("cls", [WithMixin, OverMixin])
def test_parameters_of_a_mixin_and_of_the_estimator_are_all_seen(cls):
    mixin_signature = inspect.signature(Mixin.__init__)
    net = cls(extra=3, lr=0.5, max_epochs=7, module__dropout=0.1)
    copied = clone(net)
    assert (copied.extra, copied.lr, copied.max_epochs) == (3, 0.5, 7)
    assert copied.get_params()["module__dropout"] == 0.1
    assert copied.set_params(lr=0.1, extra=4).lr == 0.1
    assert {"extra", "lr", "predict_nonlinearity"} <= set(net.get_params(deep=False))
    assert inspect.signature(Mixin.__init__) == mixin_signature
    net.set_params(max_epochs=1, lr=0.01).fit(X, Y)


def test_arguments_without_a_name_are_refused_when_the_class_is_made():
    with pytest.raises(TypeError, match=r"Bad.__init__ must name its parameters"):

        class Bad(NeuralNetClassifier):
            def __init__(self, *args, momentum=0.9, **kwargs):
                super().__init__(*args, **kwargs)


@pytest.mark.parametrize("name", ["do_stp", "on_batch_end"])
def test_an_estimator_with_a_misspelt_action_or_a_stage_is_refused(name):
    with pytest.raises(TypeError, match=name):
        type("Bad", (NeuralNetClassifier,), {name: lambda self, ctx: None})
