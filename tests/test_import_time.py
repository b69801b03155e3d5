"""Importing the package brings little that torch and scikit-learn's base did not."""

import json
import subprocess
import sys

import pytest

# sklearn.callback holds a base class of the estimators; if rich is there, it imports it
LIST_MODULES = """
import json, sys
import torch, sklearn.base, sklearn.callback
before = set(sys.modules)
{imports}
print(json.dumps(sorted(set(sys.modules) - before)))
"""

HEAVY = (
    "IPython",
    "joblib.externals.loky.process_executor",
    "matplotlib",
    "narwhals",
    "numpydoc",
    "pandas",
    "polars",
    "pytest",
    "rich",
    "safetensors",
    "skorch",
    "sklearn.ensemble",
    "sklearn.inspection",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.tree",
    "tensorboard",
    "torch.utils.tensorboard",
    "torchvision",
    "tqdm",
)


def modules_brought_by(imports):
    """Names of the modules that a fresh interpreter gets beside torch and scikit-learn's base."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES.format(imports=imports)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def brought():
    return modules_brought_by("import skorchlike")


def test_nothing_heavy_is_imported(brought):
    heavy = {
        name
        for name in brought
        for unwanted in HEAVY
        if name == unwanted or name.startswith(f"{unwanted}.")
    }
    assert not heavy, f"imported by `import skorchlike`: {sorted(heavy)}"


def test_no_other_library_is_imported(brought):
    known = set(sys.stdlib_module_names) | {"skorchlike", "sklearn", "torch", "numpy", "scipy"}
    others = {name.partition(".")[0] for name in brought} - known
    assert not {name for name in others if not name.startswith("_")}


def test_the_probe_sees_what_is_imported():
    assert "sklearn.model_selection" in modules_brought_by("import sklearn.model_selection")
