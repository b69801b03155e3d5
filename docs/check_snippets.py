"""Run every Python block of the Markdown pages, and compare what it prints.

    python docs/check_snippets.py [page.md ...]

The blocks of a page run in order in one namespace, in an empty working directory, with
warnings as errors. A block ``output`` right after a Python block is what that one prints;
``...`` in it stands for anything. Exits with 1 if a page is wrong.
"""

import doctest
import io
import os
import re
import sys
import tempfile
import traceback
import types
import warnings
from contextlib import chdir, redirect_stdout
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(python|output)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text):
    """Yield (line number, Python code, expected output or None)."""
    found = list(BLOCK.finditer(text))
    for i, match in enumerate(found):
        if match[1] == "output":
            continue
        after = found[i + 1] if i + 1 < len(found) else None
        follows = after is not None and after[1] == "output"
        follows = follows and not text[match.end() : after.start()].strip()
        line = text.count("\n", 0, match.start()) + 2
        yield line, match[2], after[2] if follows else None


def agrees(expected, printed):
    """Compare as doctest does, whatever the white space."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(expected.strip(), printed.strip(), flags)


def check_page(path):
    """Return the number of blocks of a page and a list of what is wrong."""
    # what a page defines can be pickled, as in a notebook
    page = sys.modules["__main__"] = types.ModuleType("__main__")
    namespace = vars(page)
    n_blocks, wrong = 0, []
    for line, code, expected in blocks(path.read_text(encoding="utf-8")):
        n_blocks += 1
        printed = io.StringIO()
        try:
            # the empty lines make line numbers in tracebacks those of the page
            compiled = compile("\n" * (line - 1) + code, str(path), "exec")
            with redirect_stdout(printed):
                exec(compiled, namespace)
        except Exception:
            wrong.append(f"{path}:{line}: the block failed\n{traceback.format_exc()}")
            break
        if expected is not None and not agrees(expected, printed.getvalue()):
            wrong.append(f"{path}:{line}: expected\n{expected}\nand got\n{printed.getvalue()}")
    return n_blocks, wrong


def main(pages):
    warnings.simplefilter("error")
    n_wrong = 0
    for path in pages:
        with tempfile.TemporaryDirectory() as empty, chdir(empty):
            n_blocks, wrong = check_page(path)
        if n_blocks:
            print(f"{os.path.relpath(path)}: {n_blocks} blocks, {len(wrong)} wrong", flush=True)
        for what in wrong:
            print(what, file=sys.stderr)
        n_wrong += len(wrong)
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main([Path(page).resolve() for page in sys.argv[1:]] or PAGES))
