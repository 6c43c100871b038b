"""Docstrings: a function's begins with what it does or returns, in the imperative."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bayescale"
VERBS = set(
    """
    Adapt Add Admit Apply Average Begin Bend Broadcast Build Calibrate Call Check Choose Collect Compare Compute
    Condition Convert Count Decide Declare Decode Describe Divide Download Draw Drop Enter Escape Estimate Evaluate
    Express Extend Fetch Fill Find Fit Flatten Forecast Group Hold Import Invert Iterate Join Keep Label Leave Limit
    Linearise List Load Log Make Map Mark Match Measure Merge Move Multiply Name Note Open Optimise Pad Pause Pick
    Predict Print Propagate Quote Rank Read Rebuild Recommend Recompute Reduce Refuse Remember Rename Repeat Replace
    Resample Reshape Return Rewrite Rotate Round Run Sample Scale See Shade Share Show Simulate Smooth Solve Split
    Spread Stack Start Step Strip Take Test Tie Turn Warn Weigh Wrap Write Yield
    """.split()
)
"""Verbs that begin a docstring; add another one, in the imperative, where none of these says it."""
RIDDLES = {"Say", "Says", "Tell", "Tells", "Whether", "What", "Which", "How", "Where"}
# The docstring of a law is its summary, and that of the program is its `--help`.
EXEMPT = {("decide/paired.py", name) for name in ("one", "two", "three")} | {("cli/main.py", "options")}


def wrong_starts(source, where=""):
    """Return the functions and classes of a source whose docstrings begin with another word than they should."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        word = (ast.get_docstring(node) or "").partition(" ")[0].strip(".,:")
        described = isinstance(node, ast.ClassDef) or any("property" in ast.unparse(d) for d in node.decorator_list)
        wrong = word in RIDDLES if described else word not in VERBS
        if word and wrong and (where, node.name) not in EXEMPT:
            found.append(f"{where}:{node.lineno} {node.name}: {word}")
    return found


def test_docstrings_begin_with_what_a_function_does():
    files = [path for path in PACKAGE.rglob("*.py") if "catalogue" not in path.parts]
    assert len(files) > 100
    found = [line for path in files for line in wrong_starts(path.read_text("utf-8"), str(path.relative_to(PACKAGE)))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["Say where it is.", "Whether it is there.", "Place of a thing.", "Returns a place."])
def test_other_beginnings_are_found(text):
    assert wrong_starts(f'def f():\n    """{text}"""\n')
    assert bool(wrong_starts(f'class F:\n    """{text}"""\n')) == (text.split()[0] in RIDDLES)
