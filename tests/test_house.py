"""Who may import whom, and what the package shows to the world."""

import ast
import io
import pathlib
import re
import tokenize

import pytest

import skorchlike

ROOT = pathlib.Path(skorchlike.__file__).parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}

# room → rooms (or single files) of the package that it may import
MAY_IMPORT = {
    "exceptions": set(),
    "nested": set(),
    "training.stages": set(),
    "training": {"training", "exceptions", "nested"},
    "params.routing": {"exceptions"},
    "params.continuing": {"exceptions"},
    "params.placing": {"exceptions"},
    "params.calling": {"exceptions"},
    "params.patterns": {"exceptions"},
    "params.components": {
        "params.routing",
        "params.calling",
        "criteria",
        "modules",
        "exceptions",
    },
    "params.callbacks": {
        "params.routing",
        "params.calling",
        "callbacks.base",
        "callbacks.registry",
        "exceptions",
    },
    "callbacks.base": {"training.stages", "params.routing", "exceptions"},
    "callbacks.registry": {"callbacks.base", "params.routing", "exceptions"},
    "callbacks.tools": {"callbacks.base", "callbacks.tools", "params", "exceptions", "nested"},
    "callbacks": {
        "callbacks.base",
        "callbacks.registry",
        "callbacks.tools",
        "params.calling",
        "params.patterns",
        "params.routing",
        "exceptions",
        "nested",
    },
    "callbacks.checkpoint": {
        "callbacks.base",
        "callbacks.registry",
        "callbacks.tools",
        "exceptions",
        "model",
    },
    "criteria": {"criteria", "exceptions"},
    "targets": {"targets", "training.matching", "exceptions"},
    "data": {"data", "exceptions", "nested"},
    "modules": {"modules", "exceptions"},
    "model": {"model", "exceptions"},
    # looks at everything from outside; nothing else imports it
    "inspection": {
        "inspection",
        "callbacks",
        "classifier",
        "data",
        "estimator",
        "exceptions",
        "fitting",
        "modules",
        "nested",
        "params",
        "training",
    },
    # the table of layers that `summary` makes too
    "callbacks.summary": {
        "callbacks.base",
        "callbacks.registry",
        "modules.layers",
        "exceptions",
        "nested",
    },
    "estimator": {"params.routing", "fitting", "predicting", "exceptions"},
    "recipes": {"callbacks", "exceptions"},
    "classifier": {"estimator", "fitting", "targets", "exceptions"},
    "regressor": {"estimator", "fitting", "criteria", "targets", "exceptions"},
}
# the hall, and public names
FREE = {
    "__init__",
    "fitting",
    "feeding",
    "checking",
    "collecting",
    "building",
    "predicting",
    "resuming",
    "putting_back",
    "underway",
    "fingerprints",
    "digests",
    "callbacks",
}


def imports_of(path):
    """Modules of the package that a file imports at run time."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name.partition(".")[2] for name in found if name.split(".")[0] == "skorchlike"}


@pytest.mark.parametrize("name", sorted(set(FILES) - FREE))
def test_a_room_imports_only_the_rooms_that_it_may(name):
    rule = max(
        (r for r in MAY_IMPORT if name == r or name.startswith(f"{r}.")), key=len, default=None
    )
    if rule is None:
        assert imports_of(FILES[name]) == set(), f"no rule for {name}"
        return
    for imported in imports_of(FILES[name]):
        allowed = any(imported == a or imported.startswith(f"{a}.") for a in MAY_IMPORT[rule])
        assert allowed, f"{name} imports {imported}; it may import {sorted(MAY_IMPORT[rule])}"


def test_the_import_rules_see_an_import_that_breaks_them(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("from skorchlike.callbacks.early_stopping import EarlyStopping\n")
    assert imports_of(bad) == {"callbacks.early_stopping"}


def test_the_loop_names_no_concrete_callback():
    concrete = [path.stem for path in (ROOT / "callbacks").glob("*.py")]
    names = {
        name for name in concrete if name not in ("__init__", "base", "registry", "monitoring")
    }
    source = (ROOT / "training/loop.py").read_text()
    assert [name for name in names if name in source] == []


def test_public_names_are_all_there():
    assert len(set(skorchlike.__all__)) == len(skorchlike.__all__)
    for name in skorchlike.__all__:
        assert getattr(skorchlike, name) is not None
    public = {
        name
        for name, value in vars(skorchlike).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("skorchlike")
    }
    assert public == set(skorchlike.__all__)


def test_public_names_have_docstrings():
    for name in skorchlike.__all__:
        assert (getattr(skorchlike, name).__doc__ or "").strip(), name


def test_changelog_and_version_agree():
    changelog = (ROOT.parent / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, flags=re.MULTILINE)
    assert released[0] == skorchlike.__version__


def code_lines(path):
    """Return the numbers of the lines that hold code: no comments, no docstrings."""
    source = path.read_text()
    silent = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER", "ENCODING"}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if tokenize.tok_name[token.type] not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


@pytest.mark.parametrize("name", sorted(set(FILES) - {"__init__"}))
def test_files_are_small_and_callbacks_narrow(name):
    path = FILES[name]
    assert len(code_lines(path)) <= 300
    if name.startswith("callbacks."):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                body = range(node.lineno, node.end_lineno + 1)
                assert len(code_lines(path) & set(body)) <= 125, node.name


def test_functions_fit_a_screen():
    long = {
        f"{name}.{node.name}"
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and len(code_lines(path) & set(range(node.lineno, node.end_lineno + 1))) > 50
    }
    assert long == set()
