"""How much memory a fit takes beside the data, measured by the benchmark."""

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = ("X", "data", "model", "fit", "predict")


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("memory")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_features", "said"),
    [
        (20, {}),
        (20, {"dtype": "float64"}),
        (20, {"validation": False}),
        (100, {"dtype": "float64"}),
        (100, {"module": "built-in"}),
        (100, {"module": "built-in", "weights": True}),
        (100, {"module": "built-in", "estimator": "regressor"}),
    ],
)
def test_a_fit_takes_at_most_a_fifth_more_than_data_and_model(memory, n_features, said):
    case = memory.Case(n_features=n_features, **said)
    assert memory.share(memory.measure(case, megabytes=300)) <= 1.2


@pytest.mark.slow
@pytest.mark.parametrize("module", ["own", "built-in"])
def test_a_file_larger_than_the_limit_stays_in_its_file(memory, module):
    limit = 200 * 10**6
    found = memory.measure(memory.Case("file", module=module), megabytes=600)
    assert found["X"] > 2.9 * limit
    assert max(found["fit"], found["predict"]) < limit


def test_a_case_has_the_rows_of_its_size(memory):
    assert memory.Case(n_features=25).n_rows(100) == 10**6
    assert memory.Case(n_features=25, dtype="float64").n_rows(100) == 500_000


def test_the_table_divides_the_peak_by_data_and_model(memory):
    found = {"X": 80, "data": 90 * 10**6, "model": 10 * 10**6, "fit": 115 * 10**6, "predict": 10**8}
    assert memory.share(found) == 1.15
    row = memory.row(memory.Case(n_features=20), found)
    assert row.count("|") == memory.HEAD.split("\n")[0].count("|")
    assert row.endswith("| 90.0 | 10.0 | 115.0 | 1.15 | 1.00 |")


def test_figures_are_written_to_a_file_where_asked(memory, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(memory, "measure", lambda case, megabytes: dict.fromkeys(NAMES, megabytes))
    memory.main(["--quick", "--megabytes", "7", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [result["fit"] for result in found["results"]] == [
        7,
        7,
        14,
    ]  # the file is twice as large
    assert found["results"][0]["n_features"] == 20
    assert {"torch", "numpy", "python"} <= set(found["versions"])
    assert capsys.readouterr().out.count("\n") == 2 + 3
