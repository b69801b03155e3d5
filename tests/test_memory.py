"""How much memory a fit takes beside the data, measured by the benchmark."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("memory").measure


@pytest.mark.slow
@pytest.mark.parametrize("module", ["own", "built-in"])
def test_a_fit_of_an_array_takes_at_most_three_tenths_more(measure, module):
    found = measure("memory", module, megabytes=300)
    assert (found["anonymous"] - found["model"]) / found["array"] <= 1.3


@pytest.mark.slow
@pytest.mark.parametrize("module", ["own", "built-in"])
def test_a_file_larger_than_the_limit_stays_in_its_file(measure, module):
    limit = 200 * 10**6
    found = measure("file", module, megabytes=600)
    assert found["array"] > 2.9 * limit
    assert found["anonymous"] < limit
