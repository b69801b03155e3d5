"""Draw the figures of the pages on callbacks.

    python docs/make_figures.py [name ...] [--to folder]

``docs/figures/<name>.py`` defines ``draw()``, which returns a matplotlib figure; it is saved
as ``<name>.png``, by default in ``docs/_static/callbacks``.
"""

import argparse
import importlib.util
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

DOCS = Path(__file__).resolve().parent


def load(path):
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    """Draw all figures, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--to", type=Path, default=DOCS / "_static" / "callbacks")
    given = parser.parse_args()
    names = given.names or sorted(path.stem for path in (DOCS / "figures").glob("*.py"))
    given.to.mkdir(parents=True, exist_ok=True)
    for name in names:
        figure = load(DOCS / "figures" / f"{name}.py").draw()
        figure.savefig(
            given.to / f"{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None}
        )
        print(f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
