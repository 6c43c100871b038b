"""Package: what its import costs, which module imports which, and how long files and functions are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bayescale as bs

PACKAGE = Path(bs.__file__).parent


def in_a_fresh_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light():
    code = "import sys, bayescale; print([m for m in ('jax', 'numpyro', 'pandas', 'matplotlib') if m in sys.modules])"
    assert in_a_fresh_python(code) == "[]"


def test_import_leaves_precision_alone():
    assert in_a_fresh_python("import jax, bayescale.fitting.fit; print(jax.config.jax_enable_x64)") == "False"


@pytest.mark.parametrize(
    "first", ["import bayescale.fitting.fit", "bs.fit_many", "from bayescale.fitting.fit_many import fit_many"]
)
def test_fit_stays_the_function(first):
    assert in_a_fresh_python(f"import bayescale as bs\n{first}\nprint(callable(bs.fit))") == "True"


RANKS = (
    ("errors", "_display", "_record", "_jax"),
    ("checked", "digits"),
    ("_io",),
    ("data",),
    ("forecast",),
    ("score_forecast",),
    ("laws",),
    ("model",),
    ("inference",),
    ("coverage",),
    ("posterior",),
    ("fitting",),
    ("pooling",),
    ("evaluate",),
    ("decide",),
    ("corpus",),
    ("plot",),
    ("reporting",),
    ("cli",),
)
"""Folders, and files beside them, in the order in which data flow through them: imports point to earlier ones."""
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
MOST_ROOMS = 25
LONGEST_FILE = 500


def imported(tree):
    """Folders of the package, and files beside them, that a file imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "bayescale":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bayescale."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bayescale."))


def test_imports_point_one_way():
    files = [path for path in PACKAGE.rglob("*.py") if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")]
    homes = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files}
    assert set(homes.values()) == set(RANK)
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, home in homes.items()
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if name in RANK and RANK[name] > RANK[home]
    ]
    assert not wrong


def test_nothing_of_the_package_needs_the_benchmarks():
    """Neither the package nor its tests import `benchmarks`, which no wheel holds, inside functions either."""
    files = [path for folder in (PACKAGE, Path(__file__).parent) for path in folder.rglob("*.py")]
    wrong = []
    for path in [*files, PACKAGE.parent / "conftest.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong += [f"{path.name} imports {name}" for name in names if name.split(".")[0] == "benchmarks"]
    assert len(files) > 100 and not wrong


def test_package_stays_small_at_the_top():
    rooms = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name[0] not in "._")]
    assert len([room for room in rooms if room.name != "__pycache__"]) <= MOST_ROOMS
    files = [path for folder in (PACKAGE, Path(__file__).parent) for path in folder.rglob("*.py")]
    long = [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE]
    assert not long


def lines_beside_docstring(node):
    """Lines of a function from `def` to its end, without those of its docstring."""
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is None:
        return lines
    return lines - (node.body[0].end_lineno - node.body[0].lineno + 1)


def test_functions_are_short():
    functions = [
        (path, node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    long = [f"{path.relative_to(PACKAGE)} {node.name}" for path, node in functions if lines_beside_docstring(node) > 60]
    assert not long
