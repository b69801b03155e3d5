"""Write the tables of the stored records into docs/benchmarks.md, and draw its figures.

Usage: python benchmarks/report.py [--from benchmarks/results] [--check]

Without any record it says so, writes nothing and exits with 2.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import sections
import speed_tables

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURES = DOCS / "benchmarks.md", DOCS / "figures"

BLOCK = re.compile(
    r"(<!-- (\w+): benchmarks/report\.py writes this -->\n).*?(<!-- end of \2 -->)", re.DOTALL
)


def filled(page: str, records: speed_tables.Records) -> str:
    """Return the page with the tables of the records between its marks.

    Raises
    ------
    ValueError
        If the page has no place for one of them.
    """
    texts = {name: speed_tables.section(name, records) for name in records}
    texts["verdict"] = speed_tables.verdict(records)
    absent = set(texts) - {match[2] for match in BLOCK.finditer(page)}
    if absent:
        raise ValueError(
            f"The page has no place for {', '.join(sorted(absent))}. Give each the lines "
            "<!-- NAME: benchmarks/report.py writes this --> and <!-- end of NAME -->."
        )

    def fill(match: re.Match[str]) -> str:
        text = texts.get(match[2], "Not measured yet.")
        return f"{match[1]}\n{text}\n\n{match[3]}"

    return BLOCK.sub(fill, page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--from", type=Path, default=sections.RESULTS, dest="folder", help="the records' folder"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if it would"
    )
    args = parser.parse_args()
    records = sections.stored(args.folder)
    if not records:
        print(
            f"{args.folder} has no records ({', '.join(f'{n}.json' for n in sections.SECTIONS)}). "
            f"Make them by python benchmarks/run.py --to {args.folder}, a quarter of an hour; "
            "nothing was written.",
            file=sys.stderr,
        )
        return 2
    page = PAGE.read_text(encoding="utf-8")
    new = filled(page, records)
    if args.check:
        print("as stored" if new == page else f"{PAGE.name} differs: python benchmarks/report.py")
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    import speed_figures

    for path in speed_figures.draw(records, FIGURES):
        print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
