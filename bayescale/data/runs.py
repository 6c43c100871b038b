"""Runs: a checked table of training runs."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayescale._display import Display
from bayescale.checked import known_keywords, one_screen
from bayescale.data.checkpoints import own_runs
from bayescale.data.score import ScoreScale, score_columns
from bayescale.data.value import ResponseScale, ValueScale, value_columns
from bayescale.errors import InputError, counted, nearest, one_scale, some

if TYPE_CHECKING:
    from bayescale.data.log import LogEntry

from bayescale.data.zeros import lifted

COUNTS = ("n_params", "n_tokens", "flops", "n_samples")
"""Recognised scale inputs, in raw counts."""
LABELS = ("family", "run", "seed", "step")
DISTINCT = {"unique_tokens": "n_tokens", "unique_samples": "n_samples"}
"""Inputs that count distinct tokens or samples, and the input that counts them with repetitions."""
UNNAMED = "unnamed"
"""Family of rows without a family name, in a table where other rows have one."""
RECOGNISED = (*LABELS, *COUNTS, *DISTINCT, "loss", "metric", "value", "value_se", "score", "n_items")
NO_INPUTS = ("family", "run", "metric", "loss", "value_se", "score", "n_items")
"""Columns that are never scales."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Runs(Display):
    """Training runs: a table with one row per measurement, scale inputs in raw counts, and a positive loss.

    Attributes:
        frame: Validated rows with columns family, the inputs, loss, and run, seed, step, value_se where given. `read`
            also keeps all other columns of a file, under their own names.
        inputs: Names of the scale inputs that a law may use, in order; empty where all runs have one scale.
        name: Name of the runs in texts and plots.
        log: What was recognised, converted, left out and noticed when the table was read.
        one_ray: Whether `law="auto"` may fit one input along a ray instead of all inputs (see `data.ray`). With True
            or None, it does so if all runs lie on one ray; with False, never.
        left_out: Family, known counts and loss (which may be missing) of the rows that reading left out, for plots.
        response: Name of the response in the original table, for plots.
        score: Chance and ceiling if the response is a score, else None. For scores, the frame has columns `score`,
            `n_items` (number of items) and `loss` (odds against a right answer).
        value: Scale and direction if the response is a value of any sign, such as a reward, else None. For values, the
            frame has columns `value` and `loss` (exp(y), see `ValueScale`); `value_se` is that of the value.
    """

    frame: pd.DataFrame
    inputs: tuple[str, ...]
    name: str = "runs"
    log: tuple[LogEntry, ...] = ()
    one_ray: bool | None = None
    left_out: pd.DataFrame | None = None
    response: str = "loss"
    score: ScoreScale | None = None
    value: ValueScale | None = None

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        columns: Mapping[str, str] | None = None,
        inputs: Sequence[str] | None = None,
        name: str = "runs",
        rows: Sequence[int] | None = None,
        score: ScoreScale | None = None,
        n_items: float | None = None,
        value: ValueScale | None = None,
    ) -> Runs:
        """Check a table and keep what fits need.

        Args:
            frame: One row a measurement. Recognised columns: family, run, seed, step, n_params, n_tokens, flops,
                n_samples (raw counts, never billions), unique_tokens, unique_samples (numbers of distinct tokens or
                samples), loss or metric and value, value_se.
            columns: Names of columns in the table by canonical name, e.g. `{"n_params": "params", "loss": "val_loss"}`.
            inputs: Scale inputs to use; by default n_params and n_tokens if the table has both, else the first of
                n_params, n_tokens, flops, n_samples that it has. `()` for runs of one scale.
            name: Name of the runs.
            rows: Numbers of the rows in messages; counted from 1 by default.
            score: Chance and ceiling of the column `score`, which is then the response instead of a loss.
            n_items: Number of items of all scores, if the table has no column `n_items`.
            value: Direction of the column `value`, which is then the response instead of a loss and may have any sign:
                `ValueScale()` if higher is better, `ValueScale(higher_is_better=False)` if lower is better.

        Raises:
            InputError: For anything a fit could not use, with the rows and what to do.

        Example:
            >>> import bayescale as bs, pandas as pd
            >>> table = pd.DataFrame({"flops": [1e18, 1e19, 1e20], "val": [3.5, 3.1, 2.8]})
            >>> bs.Runs.from_frame(table, columns={"loss": "val"}).inputs
            ('flops',)
        """
        table = renamed(frame, columns or {})
        numbers_of_rows = np.arange(1, len(table) + 1) if rows is None else np.asarray(rows)
        if len(table) == 0:
            raise InputError("The table has no rows; expected one row per training run.")
        entries: list[LogEntry] = []
        if score is None and "score" in table and "loss" not in table:
            score = ScoreScale()
        if score is not None:
            table, entries = with_scores(table, score, n_items, numbers_of_rows)
        if value is not None:
            table, value = with_values(table, value, numbers_of_rows)
        if "loss" not in table and "value" in table:
            table = table.rename(columns={"value": "loss"})
        if "loss" not in table:
            yours = spelt_otherwise("loss", table)
            raise InputError(
                f"A column 'loss' (or 'metric' and 'value') is needed; found {some(list(table), 8)}. "
                f"Map yours with columns={{'loss': '{yours}'}} (--column loss={yours})."
            )
        chosen = choose_inputs(table, inputs)
        kept = pd.DataFrame({"family": family_labels(table, name)})
        for column in chosen:
            kept[column] = lifted(column, numbers(table, column, numbers_of_rows))
        for column in (*COUNTS, *DISTINCT):
            if column in table and column not in chosen and table[column].notna().all():
                kept[column] = numbers(table, column, numbers_of_rows)
        kept["loss"] = numbers(table, "loss", numbers_of_rows)
        if score is not None:
            kept = kept.assign(score=table["score"].to_numpy(float), n_items=table["n_items"].to_numpy(float))
        if value is not None:
            kept["value"] = table["value"].to_numpy(float)
        if "value_se" in table and table["value_se"].notna().any():
            kept["value_se"] = numbers(table.fillna({"value_se": 0.0}), "value_se", numbers_of_rows)
        for label in LABELS[1:]:
            if label in table and not (missing := blank(table[label])).all():
                values = table[label].to_numpy()
                # A row without a name is a separate run.
                own = np.array(own_runs(len(table)), object)
                kept[label] = np.where(missing, own, values) if label == "run" and missing.any() else values
        validate(kept, chosen, numbers_of_rows)
        told = "score" if score is not None else "loss" if value is None else "value"
        response = str((columns or {}).get(told, told))
        found = cls(kept.reset_index(drop=True), chosen, name, tuple(entries), response=response, score=score)
        return found if value is None else dataclasses.replace(found, value=value)

    @property
    def families(self) -> list[str]:
        """Family names in order of appearance."""
        return list(dict.fromkeys(self.frame["family"]))

    def split(self) -> list[Runs]:
        """Return the runs of each family as separate `Runs`, named after the family."""
        if len(self.families) == 1:
            return [self]
        gone = self.left_out
        return [
            dataclasses.replace(
                self,
                frame=rows.reset_index(drop=True),
                name=str(family),
                left_out=None if gone is None else gone[gone["family"] == str(family)],
            )
            for family, rows in self.frame.groupby("family", sort=False)
        ]

    def select(self, rows: Any) -> Runs:
        """Return the rows of a boolean mask or index array as `Runs` of the same name."""
        return dataclasses.replace(self, frame=self.frame.loc[rows].reset_index(drop=True))

    def thinned(self, most: int, over: str | None = None) -> Runs:
        """Keep at most `most` rows, evenly spaced in the logarithm of one input.

        Neighbouring checkpoints of one run are not independent, so a fit to all of them would be overconfident.

        Args:
            most: Largest number of rows.
            over: Name of the input; by default the only one.

        Raises:
            InputError: For a number below 2, or several inputs without `over`.

        Example:
            >>> import bayescale as bs, numpy as np, pandas as pd
            >>> table = pd.DataFrame({"step": np.arange(1, 1001), "loss": 3.0 + 1.0 / np.arange(1, 1001)})
            >>> len(bs.Runs.from_frame(table, inputs=["step"]).thinned(20)) <= 20
            True
        """
        if most < 2:
            raise InputError(f"Keep at least 2 rows; found most={most}.")
        if over is None and len(self.inputs) > 1:
            raise InputError(f"Give the input to thin over with over=, one of {some(list(self.inputs))}.")
        name = over or next(iter(self.inputs), "step")
        if name not in self.inputs:
            raise InputError(f"There is no input {name!r}. {nearest(name, self.inputs)}")
        if len(self) <= most:
            return self
        x = np.log(self.frame[name].to_numpy(float))
        wanted = np.linspace(x.min(), x.max(), most)
        return self.select(np.unique(np.abs(x[None, :] - wanted[:, None]).argmin(1)))

    @property
    def response_scale(self) -> ResponseScale | None:
        """Relation of the response to the loss that laws describe: of a score or a value; None for a loss."""
        return self.value if self.score is None else self.score

    @property
    def response_kind(self) -> str:
        """Kind of the response, which is also its column in the frame: "loss", "score" or "value"."""
        return "score" if self.score is not None else "loss" if self.value is None else "value"

    @property
    def shown(self) -> np.ndarray:
        """Measured response of each row, shape (row,): the score or value where that is the response, else the loss."""
        return self.frame[self.response_kind].to_numpy(float)

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the sha256 of the rows, for provenance."""
        # Columns that fits do not use are left out of the digest.
        used = [c for c in self.frame if c in (*RECOGNISED, *self.inputs)]
        text = self.frame[used].to_csv(index=False, float_format="%.17g")
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.frame)

    def __iter__(self) -> Iterator[Runs]:
        """Iterate over families."""
        return iter(self.split())

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return one_screen(str(self))

    def __str__(self) -> str:
        """Return the number of rows, the inputs and their ranges."""
        spans = ", ".join(f"{c} {self.frame[c].min():.3g} to {self.frame[c].max():.3g}" for c in self.inputs)
        families = f" of {len(self.families)} families" if len(self.families) > 1 else ""
        response = f"{self.response_kind} {self.shown.min():.4g} to {self.shown.max():.4g}"
        return f"{self.name}: {counted(len(self), 'row')}{families}; {spans or 'no scale input'}; {response}"


def with_scores(
    table: pd.DataFrame, scale: ScoreScale, n_items: float | None, rows: np.ndarray
) -> tuple[pd.DataFrame, list[LogEntry]]:
    """Return a table whose column score is the response, with the columns that laws need, and log entries.

    Args:
        table: The table.
        scale: Chance and ceiling.
        n_items: Number of items of all scores, if the table has no such column.
        rows: Row numbers to print in messages.

    Raises:
        InputError: Without a column score, and for impossible scores.
    """
    if "score" not in table:
        raise InputError(
            f"A column 'score' is needed; found {some(list(table), 8)}. Map yours with columns={{'score': 'accuracy'}} "
            "(--score accuracy)."
        )
    found, entries = score_columns(table, scale, n_items, rows)
    return table.drop(columns="value_se", errors="ignore").assign(**found), entries


def with_values(table: pd.DataFrame, scale: ValueScale, rows: np.ndarray) -> tuple[pd.DataFrame, ValueScale]:
    """Return a table whose column value is the response, with the columns that laws need, and the scale of the values.

    Args:
        table: The table.
        scale: The direction of the values.
        rows: Row numbers to print in messages.

    Raises:
        InputError: Without a column value, and for values that are not finite.
    """
    if "value" not in table:
        raise InputError(
            f"A column 'value' is needed; found {some(list(table), 8)}. Map yours with columns={{'value': 'reward'}} "
            "(--value reward)."
        )
    values = numbers(table, "value", rows)
    chosen = scale.of(values)
    return table.assign(**value_columns(values, chosen, rows)), chosen


def renamed(frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Rename the columns of a table to their canonical names."""
    if frame.columns.duplicated().any():
        doubled = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"Column {doubled!r} appears more than once; rename or drop one of them.")
    for ours, theirs in columns.items():
        if theirs not in frame.columns:
            raise InputError(f"There is no column {theirs!r}. {nearest(theirs, map(str, frame.columns))}")
        if ours != theirs and ours in frame:
            frame = frame.drop(columns=ours)
    return frame.rename(columns={theirs: ours for ours, theirs in columns.items()})


def choose_inputs(table: pd.DataFrame, inputs: Sequence[str] | None) -> tuple[str, ...]:
    """Return the scale inputs to use of a table."""
    if inputs is not None:
        chosen = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        for column in chosen:
            if column not in table:
                raise InputError(f"There is no column {column!r}. {nearest(column, map(str, table.columns))}")
            if column in NO_INPUTS:
                raise InputError(
                    f"{column!r} is reserved and cannot be an input; rename the column, or map another "
                    f"with columns={{...}} (--column)."
                )
        return chosen
    present = [c for c in COUNTS if c in table and table[c].notna().any()]
    if not present:
        known = [(name, yours) for name in COUNTS if (yours := spelt_otherwise(name, table)) in table]
        name, yours = known[0] if known else ("n_params", "your_column")
        raise InputError(
            f"No column was recognised as a scale input; found {some(list(table), 8)}, expected one of "
            f"{', '.join(COUNTS)}. Map yours with columns={{'{name}': '{yours}'}} (--column {name}={yours}) or choose "
            "inputs=(...) (--input)."
        )
    if "n_params" in present and "n_tokens" in present:
        return ("n_params", "n_tokens")
    return (present[0],)


def spelt_otherwise(name: str, table: pd.DataFrame) -> str:
    """Return the column whose name differs from `name` only in case, spaces or dashes.

    If there is none, return a placeholder.
    """
    plain = {str(column).strip().lower().replace(" ", "_").replace("-", "_"): str(column) for column in table}
    return plain.get(name, "your_column")


def blank(column: pd.Series) -> np.ndarray:
    """Return for each row whether a column of names is empty there, shape (row,)."""
    return (column.isna() | (column.astype(str).str.strip() == "")).to_numpy()


def family_labels(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return the family of each row, including the metric where a table holds several metrics."""
    family = np.repeat(name, len(table)).astype(object)
    if "family" in table and not (missing := blank(table["family"])).all():
        family = np.where(missing, UNNAMED, table["family"].astype(str).to_numpy())
    if "metric" in table and table["metric"].nunique() > 1:
        metric = table["metric"].astype(str).to_numpy()
        family = np.array([f"{f}/{m}" for f, m in zip(family, metric, strict=True)], object)
    return family


def numbers(table: pd.DataFrame, column: str, rows: np.ndarray) -> np.ndarray:
    """Return a column as floats; refuse rows that are not numbers, with their numbers in `rows` in the message."""
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    text = np.flatnonzero(np.isnan(values) & table[column].notna().to_numpy())
    if len(text):
        listed = rows_hold(text, table[column].to_numpy(), rows)
        raise InputError(f"{column} must hold numbers; {listed}. Write 7e9, not 7B.")
    return values


def rows_hold(positions: np.ndarray, values: np.ndarray, rows: np.ndarray) -> str:
    """Describe offending rows: ``rows 3, 17 hold 0``; `rows` are the row numbers to print."""
    listed = list(dict.fromkeys(cell_text(values[i]) for i in positions))
    noun, verb = ("rows", "hold") if len(positions) > 1 else ("row", "holds")
    return f"{noun} {some([int(rows[i]) for i in positions])} {verb} {some(listed)}"


def cell_text(value: Any) -> str:
    """Return a cell for a message: texts in quotes, as written in the table."""
    return repr(" ".join(value.split())[:60]) if isinstance(value, str) else str(value)


def validate(table: pd.DataFrame, inputs: tuple[str, ...], rows: np.ndarray) -> None:
    """Refuse rows that no fit could use; `rows` are the row numbers to print."""
    # Compute decides which runs a backtest holds out, even if it is no input.
    for column in [c for c in dict.fromkeys((*inputs, "flops", "loss")) if c in table]:
        values = table[column].to_numpy()
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InputError(
                f"{column} must be finite and present in every row; {rows_hold(bad, values, rows)}. Drop those runs."
            )
        bad = np.flatnonzero(values <= 0)
        if len(bad) and column == "loss":
            raise InputError(
                f"loss must be positive (it is modelled on the log scale); {rows_hold(bad, values, rows)}. "
                "Read accuracies as scores with score= (--score); scores may be zero. Read rewards and other "
                "responses of any sign as values with value= (--value). Drop runs that failed."
            )
        if len(bad):
            raise InputError(
                f"{column} must be positive counts; {rows_hold(bad, values, rows)}. Drop those runs, or check the "
                "unit: counts are expected, not billions."
            )
        bad = np.flatnonzero(values < 1)
        if len(bad) and column in COUNTS:
            raise InputError(
                f"{column} must be raw counts of at least 1; {rows_hold(bad, values, rows)}. "
                "Check the unit: 7e9 is expected for 7 billion, not 7 or 0.007."
            )
    if "value_se" in table:
        errors = table["value_se"].to_numpy()
        bad = np.flatnonzero(~np.isfinite(errors) | (errors < 0))
        if len(bad):
            raise InputError(f"value_se must be a standard error of zero or more; {rows_hold(bad, errors, rows)}.")
    if len(table) < 2 and inputs:
        raise InputError("The table has one row; a fit needs runs of at least two different scales.")
    if "run" in table:
        keys = ["family", "run", *[c for c in ("seed", "step") if c in table], *inputs]
        doubled = np.flatnonzero(table.duplicated(keys).to_numpy())
        if len(doubled):
            raise InputError(
                f"The same run is measured twice at the same inputs (rows {some([int(rows[i]) for i in doubled])}); "
                "average these rows, or give each its own seed or step."
            )


def checked(runs: Any) -> Runs:
    """Return the argument if it is a `Runs`.

    Raises:
        InputError: For any other object, such as a table that was not checked yet.
    """
    if isinstance(runs, Runs):
        return runs
    hint = "Make them with bs.read(path) or bs.read(table)."
    if isinstance(runs, str | os.PathLike):
        hint = f"Read the file first: bs.read({os.fspath(runs)!r})."
    elif isinstance(runs, pd.DataFrame):
        hint = "Read the table first: bs.read(table)."
    raise InputError(f"Runs are expected; found {type(runs).__name__}. {hint}")


def several(families: Any) -> list[Any]:
    """Return families as a list; each family is checked where it is used.

    Raises:
        InputError: For a single family, or an object that is not a list of families.
    """
    if isinstance(families, Runs):
        raise InputError("A list of Runs is expected; found one Runs. Give [runs], or runs.split() for its families.")
    if isinstance(families, pd.DataFrame):
        checked(families)
    if isinstance(families, str | Mapping) or not isinstance(families, Iterable):
        raise InputError(f"A list of Runs is expected; found {type(families).__name__}. Make Runs with bs.read(path).")
    return list(families)


def need_scales(runs: Runs) -> None:
    """Refuse runs of one scale, to which no law can be fitted."""
    frame = runs.frame
    if not runs.inputs or len(frame[list(runs.inputs)].drop_duplicates()) < 2:
        raise one_scale(runs.name, "step" in frame and frame["step"].nunique() > 1)


def scale_of(runs: Runs) -> np.ndarray:
    """Return the scale of each row: the single input, or compute, or the product of the inputs."""
    return scales(runs.frame, runs.inputs)


def scales(frame: pd.DataFrame, inputs: Sequence[str]) -> np.ndarray:
    """Return the scale of each row of a table with these inputs; see `scale_of`."""
    if len(inputs) == 1:
        return frame[inputs[0]].to_numpy(float)
    if "flops" in frame:
        return frame["flops"].to_numpy(float)
    if "n_params" in frame and "n_tokens" in frame:
        return 6.0 * frame["n_params"].to_numpy(float) * frame["n_tokens"].to_numpy(float)
    return frame[list(inputs)].to_numpy(float).prod(1)
