"""What the benchmarks store, say and show: ratios, verdicts, tables and figures."""

import copy
import importlib
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OWN, BUILT_IN = "skorchlike", "skorchlike, built-in MLP"
SIZES = "10,000 × 20, 3 classes, MLP 64-64, batch 64, 5 epochs, 785 steps"


@pytest.fixture
def bench(monkeypatch):
    """Import modules of the benchmarks as `python benchmarks/run.py` does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def spread(median):
    return {"least": median, "low": median, "median": median, "high": median, "most": median}


@pytest.fixture
def records():
    """Records of all sections, in which every goal is met."""

    def fits(*works):
        fast = {OWN: 0.5, BUILT_IN: 0.4}
        slow = dict.fromkeys(("raw loop R", "skorch", "Lightning", "scikit-learn MLP"), 4.0)
        found = {
            name: {
                "to_reference": spread(value),
                "cpu": value,
                "ms": 100.0,
                "to_own": spread(value / 0.5),
                "to_built_in": spread(value / 0.4),
                **({"path": "direct"} if name in fast else {}),
            }
            for name, value in (fast | slow).items()
        }
        return {
            n: {"work": f"{n}: {SIZES}", "rounds": 2, "contenders": copy.deepcopy(found)}
            for n in works
        }

    def predicted(n_rows):
        found = {OWN: 1.0, BUILT_IN: 1.1, "raw": 1.0}
        entries = {n: {"to_raw": spread(v), "cpu": v, "us": 20.0} for n, v in found.items()}
        return {"n_rows": n_rows, "rounds": 3, "calls": 1, "contenders": entries}

    case = {"where": "memory", "estimator": "classifier", "module": "own", "n_features": 100}
    case |= {"dtype": "float32", "validation": True, "weights": False}
    case |= {"data": 100_000_000, "model": 0, "fit": 115_000_000, "predict": 101_000_000}
    line = {"fixed": 0.001, "slope": 1e-6, "r2": 0.999, "off": 0.05, "power": 0.9}
    axis = {"values": [1, 2], "rounds": 2, "contenders": {OWN: {"seconds": [1.0, 2.0], **line}}}
    loop = {"ten callbacks on six stages": {"us": spread(5.0), "cpu": 5.0}}
    imported = {"rounds": 2, "to_base": spread(1.03), "base_s": 1.5, "extra_ms": 45.0}
    results = {
        "fits": fits("W1", "W2", "W3", "W4"),
        "fits_two_threads": fits("W1", "W2", "W3"),
        "loop": {"n_steps": 10, "rounds": 2, "contenders": loop},
        "prediction": {"rows": predicted(50_000), "row": predicted(1)},
        "import": imported,
        "memory": {"megabytes": 100, "cases": [case, case | {"n_features": 20}]},
        "scaling": {"rows": axis, "callbacks": copy.deepcopy(axis)},
    }
    where = {"date": "2026-01-02", "machine": "2-core", "threads": 1, "versions": {"torch": "2"}}
    return {n: {"about": where, "quick": False, "result": r} for n, r in results.items()}


def test_contenders_take_turns_and_the_first_round_is_dropped(bench):
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "AB"}
    wall, cpu = bench("timing").interleave(calls, 2)
    assert "".join(called) == "ABABAB"
    assert {name: len(times) for name, times in wall.items()} == {"A": 2, "B": 2}
    assert {name: len(times) for name, times in cpu.items()} == {"A": 2, "B": 2}


def test_ratios_are_those_within_a_round(bench):
    found = bench("timing").ratios([2.0, 30.0, 400.0], [1.0, 10.0, 100.0])
    assert found == {"least": 2.0, "low": 2.5, "median": 3.0, "high": 3.5, "most": 4.0}


def test_the_record_says_where_and_when_but_names_no_host_and_no_path(bench):
    import platform

    about = bench("timing").environment(1)
    text = json.dumps(about)
    assert {"date", "machine", "threads", "versions"} == set(about)
    assert platform.node() not in text
    assert "/" not in text
    assert about["versions"]["torch"].startswith("2")


def test_full_fits_are_recorded_by_contender(bench):
    work = bench("workloads").w3()
    found = bench("fits").fit_times(replace(work, max_epochs=2), 1, ("raw loop R", OWN, BUILT_IN))
    again = json.loads(json.dumps(found))
    assert list(again["contenders"]) == ["raw loop R", OWN, BUILT_IN]
    assert again["contenders"]["raw loop R"]["to_reference"] == spread(1.0)
    assert again["contenders"][OWN]["to_own"] == spread(1.0)
    assert again["contenders"][BUILT_IN]["to_built_in"] == spread(1.0)
    assert [n for n, e in again["contenders"].items() if "path" in e] == [OWN, BUILT_IN]


def test_every_goal_is_met_by_records_that_meet_it(bench, records):
    lines = bench("verdicts").verdicts(records)
    assert len(lines) == len(bench("verdicts").goals()) >= 30
    assert {met for *_, met in lines} == {"met"}


@pytest.mark.parametrize(
    ("section", "path", "value", "what"),
    [
        ("fits", ("W1", "contenders", OWN, "to_reference"), spread(0.81), "W1, any module"),
        ("fits", ("W4", "contenders", OWN, "to_reference"), spread(1.001), "W4, any module"),
        ("fits", ("W3", "contenders", BUILT_IN, "to_reference"), spread(0.51), "W3, built-in"),
        ("fits", ("W2", "contenders", "skorch", "to_own"), spread(1.89), "skorch ÷ ours, W2"),
        ("fits", ("W1", "contenders", "Lightning", "to_own"), spread(3.4), "Lightning"),
        (
            "fits_two_threads",
            ("W3", "contenders", "scikit-learn MLP", "to_built_in"),
            spread(1.0),
            "scikit-learn ÷ ours, W3, built-in MLP, 2 threads",
        ),
        ("loop", ("contenders", "ten callbacks on six stages", "us"), spread(10.1), "loop's own"),
        ("prediction", ("row", "contenders", OWN, "to_raw"), spread(2.01), "one row, any module"),
        ("import", ("to_base",), spread(1.051), "import"),
        ("memory", ("cases", 1, "fit"), 121_000_000, "20 features"),
        ("scaling", ("callbacks", "contenders", OWN, "off"), 0.11, "straight line"),
    ],
)
def test_a_goal_that_is_missed_is_said_so_alone(bench, records, section, path, value, what):
    inner = records[section]["result"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    missed = [line for line in bench("verdicts").verdicts(records) if line[3] != "met"]
    assert missed
    assert all(what in line[0] and line[3] == "**not met**" for line in missed)


def test_what_was_not_measured_is_said_so(bench, records):
    del records["scaling"]
    for work in ("W1", "W2", "W3"):
        del records["fits"]["result"][work]["contenders"]["Lightning"]
    lines = [line for line in bench("verdicts").verdicts(records) if line[3] != "met"]
    assert [line[2] for line in lines] == ["not measured"] * 4
    assert [line[0].split()[0] for line in lines] == ["Lightning"] * 3 + ["cost"]


@pytest.mark.parametrize(
    ("at_most", "value", "shown"),
    [
        (0.8, 0.68123, "0.68"),
        (3, 2.6891, "2.69"),
        (10, 49.26, "49.3"),
        (120, 1234.56, "1,234.6"),
        (1.05, 1.0514, "1.051"),
        (1.05, 1.05, "1.05"),
        (1.0, 1.00004, "1.0000"),
    ],
)
def test_a_measured_value_is_shown_on_its_side_of_the_limit(bench, at_most, value, shown):
    goal = bench("verdicts").Goal("fits", "", None, at_most=at_most, unit=" ×")
    assert goal.shown(value) == f"{shown} ×"


def test_only_rows_with_extremes_more_than_twice_apart_are_marked_as_disturbed(bench, records):
    tables = bench("speed_tables")
    for name in ("fits", "fits_two_threads"):
        assert "isturbed" not in tables.section(name, records)
        fitted = records[name]["result"]["W1"]["contenders"]
        fitted["skorch"]["to_reference"] |= {"least": 2.0, "most": 4.0}
        fitted["Lightning"]["to_reference"] |= {"least": 2.0, "most": 4.1}
        table = tables.section(name, records)
        marked = [line for line in table.splitlines() if ", disturbed" in line]
        assert [line.split()[1] for line in marked] == ["Lightning"]
        assert table.count("Disturbed: extremes more than a factor of 2 apart.") == 1


@pytest.mark.parametrize("said", [[], ["--check"]])
def test_without_records_the_page_stays_and_it_says_what_to_run(
    bench, monkeypatch, capsys, tmp_path, said
):
    report = bench("report")
    page = tmp_path / "page.md"
    page.write_text(report.PAGE.read_text())
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["report.py", "--from", str(tmp_path / "none"), *said])
    before = page.read_bytes()
    assert report.main() == 2
    captured = capsys.readouterr()
    assert f"{tmp_path / 'none'} has no records (fits.json, " in captured.err
    assert f"python benchmarks/run.py --to {tmp_path / 'none'}" in captured.err
    assert captured.out == ""
    assert page.read_bytes() == before
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize("module", ["fits", "loop_cost", "prediction", "scaling"])
def test_a_part_of_the_run_that_is_run_alone_says_what_to_run(bench, module):
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(BENCHMARKS / f"{module}.py"), run_name="__main__")
    command = stopped.value.code.removeprefix("Run instead: ")
    script, option, *named = command.removeprefix("python ").split()
    assert (BENCHMARKS.parent / script).is_file()
    assert option == "--only"
    sections = bench("sections").SECTIONS
    assert named == [n for n, section in sections.items() if section.module == module]


def test_a_line_is_found_again_and_the_farthest_point_from_it(bench):
    line = bench("scaling").line
    x = np.array([10, 100, 1_000, 100_000])
    found = line(x, 0.5 + 0.003 * x)
    assert found["fixed"] == pytest.approx(0.5, rel=1e-3)
    assert found["slope"] == pytest.approx(0.003, rel=1e-3)
    assert found["off"] == pytest.approx(0, abs=1e-9)
    assert found["r2"] == pytest.approx(1)
    assert line([1, 10, 100], np.array([1, 10, 100]) ** 1.5)["power"] == pytest.approx(1.5)
    bent = line([0, 1, 2, 3, 4], [1, 1.1, 1.6, 1.3, 1.4])
    assert 0.1 < bent["off"] < 0.4


def test_an_axis_is_fitted_at_each_of_its_values(bench):
    scaling = bench("scaling")
    sizes = {"rows": 100, "max_epochs": 1}
    for axis in scaling.AXES:
        assert len(axis.values) >= 5
        assert axis.work(axis.quick_values[-1]).n_steps > 0
    axis = scaling.Axis("rows", (), (100, 200), 1, lambda n: scaling.data(**sizes | {"rows": n}))
    found = scaling.measure_axis(axis, quick=True)
    assert found["values"] == [100, 200]
    assert set(found["contenders"]) == {OWN, "raw loop R"}
    for entry in found["contenders"].values():
        assert len(entry["seconds"]) == 2
    net = scaling.with_callbacks(scaling.data(**sizes), 3)
    assert len(net.callbacks) == 3


def test_every_section_has_a_function_and_a_table(bench):
    sections, tables, run = bench("sections"), bench("speed_tables"), bench("run")
    assert set(sections.SECTIONS) == set(tables.TABLES) == set(run.TITLES)
    for section in sections.SECTIONS.values():
        assert callable(getattr(bench(section.module), section.function))


def test_a_run_prints_all_tables_and_stores_the_records(
    bench, records, monkeypatch, capsys, tmp_path
):
    sections, run = bench("sections"), bench("run")
    monkeypatch.setattr(sections, "run", lambda name, quick: records[name])
    monkeypatch.setattr("sys.argv", ["run.py", "--to", str(tmp_path)])
    run.main()
    printed = capsys.readouterr().out
    for title in (*run.TITLES.values(), "What is to be reached"):
        assert f"## {title}\n" in printed
    assert "| skorchlike (direct)" in printed
    assert "not met" not in printed
    assert sections.stored(tmp_path) == records


def test_a_quick_run_leaves_the_stored_records_alone(bench, records, monkeypatch, tmp_path):
    sections, run = bench("sections"), bench("run")
    monkeypatch.setattr(sections, "run", lambda name, quick: records[name])
    monkeypatch.setattr(sections, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["run.py", "--quick"])
    run.main()
    assert list(tmp_path.iterdir()) == []


def test_the_page_takes_the_tables_between_its_marks(bench, records):
    report = bench("report")
    page = report.PAGE.read_text()
    filled = report.filled(page, records)
    assert "| full fit ÷ R, W1, any module" in filled
    assert "Measured on 2026-01-02: 2-core, 1 thread, torch 2." in filled
    assert report.filled(filled, records) == filled
    assert report.filled(filled, {}) == report.filled(page, {})
    with pytest.raises(ValueError, match=r"no place for .*memory"):
        report.filled(
            "<!-- fits: benchmarks/report.py writes this -->\n<!-- end of fits -->", records
        )


def test_the_tables_of_the_documentation_are_those_of_the_stored_records(bench):
    report, stored = bench("report"), bench("sections").stored()
    page = report.PAGE.read_text()
    assert report.filled(page, stored) == page, "python benchmarks/report.py"


def test_the_figures_of_the_documentation_are_those_of_the_stored_records(bench):
    figures, stored = bench("speed_figures"), bench("sections").stored()
    page = bench("report").PAGE.read_text()
    assert set(figures.FIGURES) <= set(stored)
    for name in figures.FIGURES:
        path = bench("report").FIGURES / f"benchmarks_{name}.svg"
        assert figures.mark(stored, name) in path.read_text(), "python benchmarks/report.py"
        assert f"](figures/{path.name})" in page


def test_figures_are_drawn_from_the_records_and_the_same_again(bench, records, tmp_path):
    figures = bench("speed_figures")
    paths = figures.draw(records, tmp_path)
    drawn = [path.read_text() for path in paths]
    assert [path.name for path in paths] == ["benchmarks_fits.svg", "benchmarks_scaling.svg"]
    assert "0.50" in drawn[0]
    assert "callbacks" in drawn[1]
    assert [path.read_text() for path in figures.draw(records, tmp_path)] == drawn
    records["fits"]["result"]["W1"]["rounds"] = 3
    assert figures.mark(records, "fits") not in drawn[0]


def test_the_figures_say_what_was_fitted_and_what_grows(bench, records, tmp_path):
    fits, scaling = (path.read_text() for path in bench("speed_figures").draw(records, tmp_path))
    for work in ("W1", "W4"):
        assert f">{work}: MLP 64-64, batch 64</text>" in fits
    assert "785" not in fits
    for axis in ("rows", "callbacks"):
        assert f">{axis}</text>" in scaling


def test_the_figures_are_in_large_letters_to_be_read_on_white_and_on_dark(bench):
    def luminance(color):
        """Relative luminance as WCAG 2 defines it."""
        shares = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    style = bench("speed_figures").STYLE
    assert min(style["font.size"], style["axes.titlesize"]) > 9
    grey = luminance(style["text.color"]) + 0.05
    assert 1.05 / grey > 4.5
    assert grey / (luminance("#0d1117") + 0.05) > 4
