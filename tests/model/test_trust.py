"""A file may name what is trusted, and nothing else is imported."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import skorchlike
from skorchlike import Callback, NeuralNetClassifier, ParameterError
from skorchlike.exceptions import FormatError, UntrustedError
from skorchlike.model.trust import Trusted, name_of

SENTINEL = "named_by_a_file_for_the_test"


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that tells that it was imported."""
    (tmp_path / f"{SENTINEL}.py").write_text(
        "import sys\n"
        "sys.modules['trap_was_sprung'] = sys\n"
        "class Own: pass\n"
        "class Outer:\n    class Own: pass\n    attribute = 3\n"
        "def function(x): return x\n"
        "from os import system\n"
        "import os\n"
        "Alias = Own\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield SENTINEL
    for name in (SENTINEL, "trap_was_sprung"):
        sys.modules.pop(name, None)


def sprung():
    return "trap_was_sprung" in sys.modules


class Own:
    class Inner:
        pass


def function(x):
    return x


OWN = f"{__name__}:Own"

FOUND = {
    "skorchlike.classifier:NeuralNetClassifier": NeuralNetClassifier,
    "skorchlike.callbacks.base:Callback": Callback,
    "skorchlike.modules.mlp:MLP": sys.modules["skorchlike.modules.mlp"].MLP,
    "torch.nn.modules.linear:Linear": nn.Linear,
    "torch.nn.functional:relu": nn.functional.relu,
    "torch.nn.functional:gelu": nn.functional.gelu,
    "torch.nn.init:zeros_": nn.init.zeros_,
    "torch:tanh": torch.tanh,
    "torch.optim.sgd:SGD": torch.optim.SGD,
    "torch.optim.lr_scheduler:StepLR": torch.optim.lr_scheduler.StepLR,
    "torch.optim.swa_utils:AveragedModel": torch.optim.swa_utils.AveragedModel,
    "builtins:dict": dict,
    "builtins:ValueError": ValueError,
    "collections:OrderedDict": __import__("collections").OrderedDict,
    "torch.utils.data.dataloader:DataLoader": torch.utils.data.DataLoader,
}


@pytest.mark.parametrize("name", FOUND)
def test_what_is_trusted_by_itself_is_found(name):
    assert Trusted().find(name) is FOUND[name]
    assert name_of(FOUND[name]) == name


UNTRUSTED = [
    "os:system",
    "posix:system",
    "subprocess:Popen",
    "builtins:eval",
    "builtins:exec",
    "builtins:open",
    "builtins:__import__",
    "builtins:getattr",
    "builtins:input",
    "builtins:memoryview",
    "builtins:KeyboardInterrupt",
    "torch:load",
    "torch:from_file",
    "torch.hub:load",
    "torch.nn.functional:torch.hub.load",
    "torch.nn.functional:torch",
    "torch.nn.functional:importlib.import_module",
    "torch.nn.functional:warnings.warn",
    "torch.nn.functional:handle_torch_function",
    "torch.nn.functional:relu.__globals__",
    "torch.nn.modules.linear:Linear.__init__",
    "torch.nn.modules.linear:Linear.forward",
    "torch.nn.modules.module:torch.hub.load",
    "torch.nn.modules.module:warnings.catch_warnings",
    "torch.nn.modules.module:Module.__call__",
    "torch.nn.parallel.data_parallel:data_parallel",
    "torch.optim.sgd:sgd",
    "torch.optim.optimizer:ParamsT",
    "torch.serialization:load",
    "torch.nn:Linear",
    "skorchlike:NeuralNetClassifier",
    "skorchlike.model.storage:remove",
    "skorchlike.model.storage:os.system",
    "skorchlike.model.files:write_atomically",
    "skorchlike.model.persistence:load",
    "skorchlike.exceptions:importlib.import_module",
    "skorchlike.exceptions:import_extra",
    "skorchlike_evil:Own",
    "torch.nn_evil:Own",
    "numpy:load",
    "pickle:loads",
    "joblib:load",
    "sklearn.preprocessing._function_transformer:FunctionTransformer",
    "functools:partial",
    "",
    ":",
    "torch.nn",
    "torch.nn.modules.linear:",
    ":Linear",
    "torch.nn.modules.linear:Linear:Linear",
    "torch/nn:Linear",
    "skorchlike.../../evil:Own",
    "skorchlike.modules/../../evil:Own",
    "skorchlike..mlp:MLP",
    "skorchlike.modules.mlp:MLP\n",
    "skorchlike.modules.mlp:MLP()",
]


@pytest.mark.parametrize("name", UNTRUSTED)
def test_what_is_not_trusted_is_refused(name):
    with pytest.raises(UntrustedError, match=r"load\(path, trusted=\["):
        Trusted().find(name)


def test_nothing_untrusted_is_imported(trap):
    with pytest.raises(UntrustedError, match=rf"trusted=\['{trap}\.Own'\]"):
        Trusted().find(f"{trap}:Own")
    with pytest.raises(UntrustedError):
        Trusted().check([f"{trap}:Own", "torch.nn.modules.linear:Linear"])
    with pytest.raises(UntrustedError):
        Trusted(["other.package", f"{trap}_not", f"{trap}.Other"]).find(f"{trap}:Own")
    assert not sprung()


@pytest.mark.parametrize("trusted", ["{}.Own", "{}"])
def test_name_or_package_that_is_listed_is_imported(trap, trusted):
    assert Trusted([trusted.format(trap)]).find(f"{trap}:Own").__name__ == "Own"
    assert sprung()


def test_listed_package_does_not_lend_its_trust_to_what_it_imports(trap):
    trusted = Trusted([trap])
    assert trusted.find(f"{trap}:Outer.Own").__qualname__ == "Outer.Own"
    assert trusted.find(f"{trap}:function")("x") == "x"
    for name in ("system", "os.system", "Alias", "Outer.attribute", "os"):
        with pytest.raises(UntrustedError):
            trusted.find(f"{trap}:{name}")


def test_class_that_is_listed_is_taken_as_it_is(monkeypatch):
    imported = []
    monkeypatch.setattr("importlib.import_module", imported.append)
    assert Trusted([Own, function]).find(OWN) is Own
    assert Trusted([Own, function]).find(f"{__name__}:function") is function
    assert imported == []
    with pytest.raises(UntrustedError):
        Trusted([Own]).find(f"{__name__}:Own.Inner")
    assert Trusted([__name__]).find(f"{__name__}:Own.Inner") is Own.Inner
    assert Trusted([sys.modules[__name__]]).find(OWN) is Own


def test_what_has_moved_is_given_by_a_dict():
    trusted = Trusted({"gone.away.Own": Own})
    assert trusted.find("gone.away:Own") is Own
    with pytest.raises(UntrustedError):
        trusted.find("gone.away:Other")


def test_what_does_not_exist_any_more_is_named():
    with pytest.raises(FormatError, match=r"'skorchlike\.gone\.Thing'.*cannot be imported"):
        Trusted().find("skorchlike.gone:Thing")
    with pytest.raises(FormatError, match=r"'torch\.nn\.functional\.gone', which does not exist"):
        Trusted().find("torch.nn.functional:gone")
    with pytest.raises(FormatError, match="trusted="):
        Trusted(["gone"]).find("gone:Thing")


def test_all_names_that_lack_trust_are_told_at_once():
    with pytest.raises(UntrustedError, match=r"'a\.B', 'c\.d', which"):
        Trusted().check(["c:d", "a:B", "torch.nn.modules.linear:Linear", "a:B"])


@pytest.mark.parametrize(
    "trusted", ["package", Own, 3, None, [3], [Own()], [""], ["."], {"a.b": "c"}, function]
)
def test_what_cannot_be_trusted_is_an_error(trusted):
    with pytest.raises(ParameterError, match="`trusted` parameter"):
        Trusted(trusted)


def test_name_as_a_value_of_the_dict_is_told_from_what_it_names():
    with pytest.raises(
        ParameterError, match=r"value must be a class .*\{'a\.B': 'c\.D'\}: import c\.D"
    ):
        Trusted({"a.B": "c.D"})


def test_local_class_cannot_be_trusted():
    class Local:
        pass

    with pytest.raises(FormatError, match="Local"):
        Trusted([Local])


def test_name_of_refuses_what_would_not_be_found():
    for thing in (lambda x: x, types.SimpleNamespace(), np.random.default_rng(0).normal):
        with pytest.raises(FormatError, match="cannot be written"):
            name_of(thing)


def public_classes():
    things = [getattr(skorchlike, name) for name in skorchlike.__all__]
    return [thing for thing in things if isinstance(thing, type)]


def test_every_public_class_is_trusted():
    classes = public_classes()
    assert len(classes) > 30
    for cls in classes:
        assert Trusted().find(name_of(cls)) is cls


def test_no_trusted_class_of_the_package_does_anything_when_it_goes():
    """What a file makes is dropped again, perhaps half made: nothing may act on that."""
    seen = public_classes()
    while seen:
        cls = seen.pop()
        assert not hasattr(cls, "__del__"), cls
        seen += cls.__subclasses__()
