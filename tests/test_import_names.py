"""The public names whose files are imported when they are first asked for."""

import ast
import inspect
import json
import pickle
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import skorchlike
from skorchlike import Callback, callbacks, register_callback
from skorchlike.callbacks.registry import BUILT_IN, callback_class

PACKAGES = [skorchlike, callbacks]

# one interpreter tells all: each starts by importing torch
SESSION = """
import json, pickle, sys
import numpy as np
import skorchlike

told = {}

def loaded(): return sorted(name for name in sys.modules if name.startswith("skorchlike."))

def error_of(call):
    try:
        call()
    except skorchlike.ParameterError as error:
        return str(error)

told["imported"] = loaded()
told["unknown"] = error_of(lambda: skorchlike.get_callback("tensor_board"))
other = type("SWA", (skorchlike.Callback,), {})
told["taken"] = error_of(lambda: skorchlike.register_callback("swa")(other))
told["names"] = skorchlike.list_callbacks()
told["listed"] = [dir(skorchlike), dir(skorchlike.callbacks)]
told["after names"] = loaded()

data = np.eye(12, 3), [0, 1, 2] * 4
skorchlike.NeuralNetClassifier(max_epochs=1).fit(*data).predict_proba(data[0])
told["after a fit"] = loaded()
net = skorchlike.NeuralNetClassifier(max_epochs=1, callbacks=["gradient_clipping"]).fit(*data)
told["after a named callback"] = loaded()
told["read"] = repr(pickle.loads(bytes.fromhex(sys.argv[1])))
told["asked for"] = [skorchlike.inspection.__name__, skorchlike.recipes.__name__,
                     skorchlike.callbacks.freezing.__name__]
for package in ("skorchlike", "skorchlike.callbacks"):
    space = {}
    exec(f"from {package} import *", space)
    told[f"star of {package}"] = sorted(set(space) - {"__builtins__"})
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    dumped = pickle.dumps(skorchlike.EarlyStopping(patience=2)).hex()
    command = [sys.executable, "-W", "error", "-c", SESSION, dumped]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def callback_files(modules):
    """Files of built-in callbacks among modules, but for what the estimator itself takes of them.

    That is Checkpoint (a fit asks whether there is one) and PrintLog (``verbose=1``).
    """
    files = {f"skorchlike.callbacks.{path.partition('.')[0]}" for path in BUILT_IN.values()}
    own = {"skorchlike.callbacks.checkpoint", "skorchlike.callbacks.print_log"}
    return (files & set(modules)) - own


def test_the_import_leaves_out_what_looks_from_outside(told):
    outside = {"skorchlike.recipes", "skorchlike.data.sequences", "skorchlike.inspection"}
    assert not outside & set(told["imported"])


def test_the_import_takes_no_callback_beyond_those_of_the_estimator(told):
    assert callback_files(told["imported"]) == set()


def test_names_are_listed_and_corrected_without_an_import(told):
    assert "Did you mean 'tensorboard'?" in told["unknown"]
    assert "is registered for skorchlike.callbacks.weight_averaging.SWA" in told["taken"]
    assert told["names"] == sorted(BUILT_IN)
    assert told["after names"] == told["imported"]


def test_dir_lists_every_public_name(told):
    for package, listed in zip(PACKAGES, told["listed"], strict=True):
        assert set(package.__all__) <= set(listed)


def test_a_plain_fit_and_prediction_need_none_of_what_is_left_out(told):
    new = set(told["after a fit"]) - set(told["imported"])
    assert callback_files(new) == set()
    assert not {name for name in new if name.startswith("skorchlike.inspection")}


def test_a_callback_named_in_a_fit_brings_its_own_file_alone(told):
    assert callback_files(told["after a named callback"]) == {
        "skorchlike.callbacks.gradient_clipping"
    }


def test_a_pickle_is_read_where_only_the_package_was_imported(told):
    assert told["read"] == "EarlyStopping(patience=2)"


def test_folders_and_files_left_out_can_be_asked_for(told):
    assert told["asked for"] == [
        "skorchlike.inspection",
        "skorchlike.recipes",
        "skorchlike.callbacks.freezing",
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_gives_the_public_names(told, package):
    assert told[f"star of {package.__name__}"] == sorted(package.__all__)


def test_every_callback_of_a_file_has_a_name():
    found = set()
    for info in pkgutil.iter_modules(callbacks.__path__):
        module = import_module(f"skorchlike.callbacks.{info.name}")
        found |= {
            f"{info.name}.{name}"
            for name, value in vars(module).items()
            if inspect.isclass(value)
            and issubclass(value, Callback)
            and value.__module__ == module.__name__
            and not name.startswith("_")
        }
    no_choice = {"base.Callback", "sklearn_tasks.SklearnTasks"}
    assert found - no_choice == set(BUILT_IN.values())


def test_every_built_in_callback_is_a_public_name():
    for name, path in BUILT_IN.items():
        cls = path.partition(".")[2]
        assert callback_class(name) is getattr(skorchlike, cls) is getattr(callbacks, cls)
        assert cls in skorchlike.__all__
        assert cls in callbacks.__all__


def shown_to_type_checkers(package):
    """Name → module of what a package imports for type checkers alone."""
    tree = ast.parse(Path(package.__file__).read_text())
    blocks = [n for n in tree.body if isinstance(n, ast.If) and isinstance(n.test, ast.Name)]
    return {
        alias.name: statement.module
        for block in blocks
        for statement in block.body
        for alias in statement.names
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_objects(package):
    shown = shown_to_type_checkers(package)
    assert {path.partition(".")[2] for path in BUILT_IN.values()} <= set(shown)
    for name, module in shown.items():
        assert getattr(package, name) is getattr(import_module(module), name)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_the_usual_error(package):
    with pytest.raises(AttributeError, match="has no attribute 'EarlyStoping'") as caught:
        package.EarlyStoping  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("EarlyStoping", package)
    with pytest.raises(ImportError, match="EarlyStoping"):
        exec(f"from {package.__name__} import EarlyStoping")


def test_a_built_in_registered_again_by_its_own_name_is_no_error(monkeypatch):
    monkeypatch.setattr("skorchlike.callbacks.registry._REGISTRY", {})
    assert register_callback("swa")(skorchlike.SWA) is skorchlike.SWA
    assert callback_class("swa") is skorchlike.SWA
