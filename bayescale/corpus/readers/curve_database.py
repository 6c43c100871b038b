"""The Learning Curve Database (LCDB 0.1.0): 20 learners of scikit-learn on 246 data sets.

Mohr, Viering, Loog and van Rijn (2022), "LCDB 1.0: An Extensive Learning Curves Database for Classification Tasks"; MIT
licence. Its data come inside the Python package ``lcdb``, which is not imported: that would need further packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bayescale import _io
from bayescale.corpus.download import cache_folder
from bayescale.corpus.readers.tables import significant, tidy
from bayescale.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LOCATION = "BAYESCALE_LCDB"
"""Environment variable with the path of the source archive of ``lcdb``, or of a folder with its two tables."""

SHA256 = {
    "lcdb-0.1.0.tar.gz": "450ea69b249866298653f718d66a825e3d19a4024dd4ff140b89f2e04d4777ae",
    "database-accuracy.csv": "5bf9f9388d37da47ce5e0edaf67dacfbd12a05ba50b76b5b3f4bf2dce02d85ac",
    "database-logloss.csv": "14ebe07028ab47788a0cc2b025a3e8a8af1b8882d6e088e89e4760c9bc0efeaf",
}
HOW = (
    "install the package that holds it (pip install 'bayescale[lcdb]'), or fetch its archive (pip download lcdb==0.1.0 "
    f"--no-deps --no-binary :all:) and set {LOCATION} to the file lcdb-0.1.0.tar.gz."
)

_TABLES = {"error_rate": "database-accuracy.csv", "log_loss": "database-logloss.csv"}
_CACHED = "lcdb-0.1.0-curves-1.csv.gz"
_CURVE = ["openmlid", "learner"]
_ANCHOR = [*_CURVE, "size_train"]

_OUTER_SEEDS = 5
_FEWEST_INNER_SEEDS = 2
_FEWEST_ANCHORS = 7


def lcdb() -> pd.DataFrame:
    """Read LCDB's learning curves of the error rate (1 - accuracy) and the log-loss on test data.

    There are five outer seeds, which change the test set, and for each of them up to five (for some data sets 25) inner
    seeds, which change the training data. A value is the mean over outer seeds of the means over inner seeds, and
    ``value_se`` is its standard error over the outer seeds. An anchor (a training-set size) is kept if all five outer
    seeds have at least two inner seeds. A curve is kept if it has seven such anchors and never reaches zero, which has
    no logarithm. Of 4,367 curves 3,945 remain for the error rate and 3,958 for the log-loss. Log-losses are clipped at
    34.5, -ln(1e-15), and have heavy tails.

    The reduced table is kept in the cache folder, so that it is computed only once.

    Raises:
        InputError: If LCDB is not found, or is not version 0.1.0 as published.
    """
    cached = cache_folder() / _CACHED
    curves = _kept(cached)
    if curves is None:
        curves = reduced()
        _keep(curves, cached)
    family = curves["dataset"].astype(str) + "/" + curves["learner"]
    # Each anchor is trained separately.
    run = family + "|n" + curves["n_samples"].astype(str)
    return tidy(
        curves.assign(family=family, run=run),
        "lcdb",
        "mohr2022lcdb",
        ["n_samples", "dataset", "learner"],
    )


def reduced() -> pd.DataFrame:
    """Average seeds, and drop curves that are too short, have too few seeds or reach zero."""
    import pandas as pd

    path = located()
    return pd.concat([_reduced(path, metric, name) for metric, name in _TABLES.items()], ignore_index=True)


def located() -> Path:
    """Return the path of the archive or folder of LCDB."""
    named = os.environ.get(LOCATION)
    if named:
        path = Path(named).expanduser()
        if not path.exists():
            raise InputError(f"{LOCATION}={named} does not exist: {HOW}")
        return path / "lcdb" if (path / "lcdb").is_dir() else path
    # Locating a package does not import it.
    package = importlib.util.find_spec("lcdb")
    if package is None or not package.submodule_search_locations:
        raise InputError(f"The Learning Curve Database is not installed: {HOW}")
    return Path(package.submodule_search_locations[0])


def state() -> str:
    """Return whether LCDB is installed or downloaded, as text."""
    if (cache_folder() / _CACHED).is_file():
        return "reduced table in the cache"
    try:
        located()
    except InputError:
        return "not installed"
    return "installed"


def _reduced(path: Path, metric: str, name: str) -> Any:
    import pandas as pd

    kinds = {
        "openmlid": "int32",
        "learner": "category",
        "size_train": "int32",
        "outer_seed": "int8",
        "score_test": "float64",
    }
    with _opened(path, name) as file:
        runs = pd.read_csv(file, usecols=list(kinds), dtype=kinds)
    if metric == "error_rate":
        runs["score_test"] = 1 - runs["score_test"]
    outer = runs.groupby([*_ANCHOR, "outer_seed"], observed=True)["score_test"].agg(["mean", "size"])
    outer = outer[outer["size"] >= _FEWEST_INNER_SEEDS]
    anchors = outer.groupby(_ANCHOR, observed=True)["mean"].agg(["mean", "sem", "size"])
    anchors = anchors[anchors["size"] == _OUTER_SEEDS].reset_index()
    # Scores are printed with four decimals, so smaller values are rounding errors of sums.
    anchors["mean"] = anchors["mean"].where(anchors["mean"] > 1e-9, 0.0)
    curves = anchors.groupby(_CURVE, observed=True)["mean"]
    kept = anchors[(curves.transform("size") >= _FEWEST_ANCHORS) & (curves.transform("min") > 0)]
    return pd.DataFrame(
        {
            "dataset": kept["openmlid"].astype("int64"),
            "learner": kept["learner"].astype("str").str.split(".").str[-1].astype("str"),
            "n_samples": kept["size_train"].astype("int64"),
            "metric": metric,
            "value": significant(kept["mean"], 8),
            "value_se": significant(kept["sem"], 8),
        }
    )


@contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open one verified table, in a folder or inside the archive."""
    if path.is_dir():
        file = path / name
        if not file.is_file():
            raise InputError(f"{path} holds no {name}: {HOW}")
        _verify(file, name)
        with file.open("rb") as stream:
            yield stream
        return
    _verify(path, "lcdb-0.1.0.tar.gz")
    with tarfile.open(path) as archive:
        member = archive.extractfile(f"lcdb-0.1.0/lcdb/{name}")
        if member is None:
            raise InputError(f"{path} holds no {name}: {HOW}")
        yield member


def _verify(path: Path, name: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256[name]:
        raise InputError(
            f"{path} is not that of LCDB 0.1.0: expected sha256 {SHA256[name]}, found {found}. To get it, {HOW}"
        )


def _kept(path: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, EOFError, ValueError, zlib.error):
        # Missing, or damaged (gzip has a checksum): it is computed again in both cases.
        return None


def _keep(curves: pd.DataFrame, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _io.write(path, lambda part: curves.to_csv(part, index=False, compression="gzip"))
    except (OSError, InputError):
        # If the cache cannot be written, the next call takes a few seconds longer.
        return
