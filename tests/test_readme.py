"""Python blocks of the README compile; those that are scripts define what they use, and run."""

import ast
import builtins
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SCRIPTS = {name: block for block in BLOCKS for name in re.findall(r"\A# (\w+\.py)\b", block)}


def undefined(source):
    """Names that a script reads and nowhere binds."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {node.id for node in names if isinstance(node.ctx, ast.Load)} - bound - set(dir(builtins))


def test_undefined_names_are_found():
    assert undefined("import a.b as c\nfor x in c.d(y):\n    print(x, z)") == {"y", "z"}


def test_blocks_compile():
    assert len(BLOCKS) >= 5
    for block in BLOCKS:
        ast.parse(block)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_stand_alone(name):
    assert undefined(SCRIPTS[name]) == set()


def test_processes_are_started_in_scripts_with_a_guard():
    started = [block for block in BLOCKS if "ProcessPoolExecutor" in block or "distributed.Client" in block]
    assert started
    for block in started:
        assert block in SCRIPTS.values() and 'if __name__ == "__main__":' in block


@pytest.mark.slow
def test_process_pool_script_runs(tmp_path):
    flops = [1e18, 3e18, 1e19, 3e19, 1e20]
    tables = [
        pd.DataFrame({"family": name, "flops": flops, "loss": [1.5 + size * (c / 1e18) ** -0.1 for c in flops]})
        for name, size in (("one", 2.0), ("two", 1.9))
    ]
    pd.concat(tables).to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "pool.py").write_text(SCRIPTS["pool.py"])
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "pool.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["one", "two"]
    assert "executor broke" not in done.stderr
