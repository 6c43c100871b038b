"""Every example of the README and of the documentation runs, page by page, as a reader would paste it.

On each page, in order and in one empty folder: a block with a title is the file of that name, Python blocks run in one
namespace, scripts run as programs, and lines of shell blocks run through the command line. A block after the comment
`<!-- not run: REASON -->` is left out.
"""

import dataclasses
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import call

ROOT = Path(__file__).parents[1]
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n+)?"
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LANGUAGES = ("python", "shell", "csv", "text", "bibtex", "toml", "yaml")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, the file that it stands for, and why it is not run."""

    language: str
    title: str | None
    text: str
    reason: str | None

    @property
    def is_script(self):
        return self.title is not None and self.title.endswith(".py")


def blocks_of(text):
    """All fenced blocks of a page; indented ones, and languages nobody knows, are refused."""
    found = [Block(m["language"], m["title"], m["text"], m["reason"]) for m in FENCE.finditer(text)]
    assert text.count("```") == 2 * len(found), "a fence that was not understood"
    for block in found:
        assert block.language in LANGUAGES, block.language
    return found


def commands_of(block):
    """Lines of a shell block, without comments; a line may end in a backslash."""
    joined = block.text.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def pages():
    """The README and every page with a block that runs."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = {page: page.read_text("utf-8") for page in found}
    runs = [page for page, text in texts.items() if any(b.language in ("python", "shell") for b in blocks_of(text))]
    return {str(page.relative_to(ROOT)): page for page in runs}


PAGES = pages()
LONG = ("how-to/isoflop.md", "how-to/repeated-data.md", "how-to/experts.md", "how-to/repeated-sampling.md")
"""Ends of the names of pages whose examples fit many models."""


def run_block(block, namespace, folder):
    """Run one block in the current folder, which is `folder`."""
    if block.title is not None:
        (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.title).write_text(block.text, encoding="utf-8")
        if block.is_script:
            command = [sys.executable, "-W", "error::RuntimeWarning", block.title]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout
    elif block.language == "python":
        exec(compile(block.text, "<example>", "exec"), namespace)
    elif block.language == "shell":
        for program, *arguments in commands_of(block):
            assert program == "bayescale", f"{program} would not be run"
            assert call(*arguments) == 0, " ".join(arguments)


def test_blocks_are_understood():
    page = (
        'x\n```csv title="a.csv"\nn\n1\n```\n<!-- not run: takes hours -->\n```shell\nmake all\n```\n'
        "```python\nprint(1)\n```\n"
    )
    table, shell, python = blocks_of(page)
    assert (table.title, table.text, table.reason) == ("a.csv", "n\n1\n", None)
    assert (shell.reason, commands_of(shell)) == ("takes hours", [["make", "all"]])
    assert python.text == "print(1)\n"
    two = Block("shell", None, "bayescale fit a.csv \\\n  --seed 1  # why\n", None)
    assert commands_of(two) == [["bayescale", "fit", "a.csv", "--seed", "1"]]
    with pytest.raises(AssertionError, match="not understood"):
        blocks_of("- x\n\n  ```python\n  1\n  ```\n")


def test_a_block_that_fails_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run_block(Block("python", None, "1 / 0\n", None), {}, tmp_path)
    with pytest.raises(AssertionError, match=r"fit missing\.csv"):
        run_block(Block("shell", None, "bayescale fit missing.csv\n", None), {}, tmp_path)
    with pytest.raises(AssertionError, match="make would not be run"):
        run_block(Block("shell", None, "make all\n", None), {}, tmp_path)


def test_pages_have_examples():
    assert {"README.md", "docs/quickstart.md"} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_what_is_left_out_says_why_and_parses(name):
    for block in blocks_of(PAGES[name].read_text("utf-8")):
        if block.language == "python":
            compile(block.text, name, "exec")
        if block.reason is not None:
            assert len(block.reason) > 5


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_pages_outside_of_the_site_link_to_files(name):
    text = (ROOT / name).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (ROOT / name).parent.joinpath(target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name.endswith(LONG) else name for name in PAGES]
)
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"__name__": "__main__"}
    for block in blocks_of(PAGES[name].read_text("utf-8")):
        if block.reason is None:
            run_block(block, namespace, tmp_path)
