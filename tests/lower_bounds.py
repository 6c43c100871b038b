"""Print the oldest version of each run-time dependency that pyproject.toml allows, as pip's constraints.

`make oldest` installs the package under these constraints. What the dependencies themselves need is not constrained,
and neither are the tools of the tests. Extras that the tests do not install are left out.
"""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
TESTED_EXTRAS = ("dask", "excel", "parquet")
"""Extras of users that are a part of the extra `test`."""


def constraint(requirement: str) -> str:
    """Return the requirement at its lower bound: `dask[distributed]>=2025.1` gives `dask==2025.1`.

    Raises:
        ValueError: If the requirement is anything else than a name, extras and one lower bound.
    """
    found = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)", requirement)
    if found is None:
        raise ValueError(f"expected a name and one lower bound, e.g. 'numpy>=2.0.2'; found {requirement!r}")
    name, version = found.groups()
    return f"{name}=={version}"


def constraints(project: Path = PROJECT) -> list[str]:
    """Return the constraints for the dependencies of the package and of the tested extras."""
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    extras = table["optional-dependencies"]
    return [
        constraint(text) for text in table["dependencies"] + [text for name in TESTED_EXTRAS for text in extras[name]]
    ]


if __name__ == "__main__":
    print("\n".join(constraints()))
