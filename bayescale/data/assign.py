"""Assignment: which columns of a table are the inputs, the response and the labels, and which the user must choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bayescale.data.cells import Column, evidence, missing, read_column
from bayescale.data.columns import EXACT, ROLES, Heading, headings, words_of
from bayescale.data.log import LogEntry
from bayescale.errors import InputError, nearest, some

LABEL_ROLES = [
    "family",
    "run",
    "seed",
    "step",
    "status",
    "note",
    "metric",
    "correct",
    "n_items",
    "attempts",
    "n_samples",
    "unique_tokens",
    "unique_samples",
    "planned_tokens",
    "tokens_per_param",
    "chinchilla_multiple",
]
"""Roles for which the best of several matching columns is used without asking; the other columns are kept unchanged."""
SIZE_NAMES = ("model", "model_name", "size", "model_size", "scale", "rung", "name")
"""Columns of names that may be sizes of models, such as 160M."""
SAME_COMPUTE = np.log(1.1)
"""Largest difference of ln(compute) from ln(6 N D), about 10 %, at which N counts as the one behind the compute."""


@dataclasses.dataclass(frozen=True)
class Cells:
    """The cells of a table, and how its numbers are written.

    Attributes:
        frame: See `formats.table.Table`.
        decimal: The decimal mark, if the caller specified it.
        proved: Decimal marks without which some cells could not be read.
        heads: Role and unit of each column, from its name.
    """

    frame: pd.DataFrame
    decimal: str | None = None
    proved: set[str] = dataclasses.field(default_factory=set)
    heads: dict[str, Heading] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, frame: pd.DataFrame, decimal: str | None) -> Cells:
        """Return the cells of a table, with the role and unit of each column."""
        proved = evidence(frame[column].tolist() for column in frame)
        return cls(frame, decimal, proved, headings(map(str, frame.columns)))

    def named(self, fixed: Mapping[str, str]) -> Cells:
        """Return the table with the roles that the caller gave to columns; units in their names then count."""
        heads = {theirs: self.heads[theirs].told(role) for role, theirs in fixed.items() if theirs in self.heads}
        return dataclasses.replace(self, heads=self.heads | heads)

    def numbers(self, column: str, *, compute: bool = False) -> Column:
        """Read one column as numbers."""
        return read_column(self.frame[column].tolist(), decimal=self.decimal, proved=self.proved, compute=compute)

    def counts(self, column: str) -> np.ndarray:
        """Return a column as raw counts, with the unit in its name; NaN where that fails."""
        read = self.numbers(column, compute=self.heads[column].role == "flops")
        return read.values * np.where(read.suffixed, 1.0, self.heads[column].factor)

    def empty(self, column: str) -> bool:
        """Return whether a column has no values."""
        return all(missing(value) for value in self.frame[column])

    def with_role(self, *roles: str) -> list[Heading]:
        """Return the headings of columns that have one of these roles and at least one value."""
        return [head for head in self.heads.values() if head.role in roles and not self.empty(head.name)]


def assign(
    cells: Cells,
    fixed: Mapping[str, str],
    inputs: Sequence[str] | None = None,
    *,
    response: bool = True,
) -> tuple[dict[str, str], list[LogEntry]]:
    """Map canonical column names (n_params, loss, ...) to the columns of a table.

    Args:
        cells: The table.
        fixed: Columns that the caller or the file format specified, by canonical name.
        inputs: Requested scale inputs; columns that only other inputs need may then be ambiguous.
        response: Whether a response is needed.

    Returns:
        Columns by canonical name, and log entries about how they were chosen.

    Raises:
        InputError: For columns that do not exist, or where several columns may be meant.
    """
    check_named(cells, fixed, inputs or ())
    chosen, log, questions = dict(fixed), [], []
    taken = set(fixed.values())
    for role in LABEL_ROLES:
        found = [head for head in cells.with_role(role) if head.name not in taken and role not in chosen]
        if found and (best := label(cells, role, found, chosen)):
            chosen[role] = best
            taken.add(best)
    if "n_samples" in chosen and {"correct"} <= set(chosen) and "attempts" not in chosen:
        chosen["attempts"] = chosen.pop("n_samples")
    scales = {"n_tokens", "flops", "n_params"} if inputs is None else {"n_tokens", "flops", "n_params"} & set(inputs)
    if inputs is not None and "flops" in scales and not cells.with_role("flops"):
        scales |= {"n_params", "n_tokens"}
    for role in ("flops", "n_tokens", "n_params"):
        free = [head for head in cells.with_role(role) if head.name not in taken]
        if role in chosen or (role not in scales and inputs is not None and len(free) != 1):
            continue
        best, entries, question = scale(cells, role, free, chosen)
        log += entries
        questions += question
        if best:
            chosen[role] = best
            taken.add(best)
    # Compute follows from parameters and tokens, so the user need not choose between several columns of compute.
    if {"n_params", "n_tokens"} <= set(chosen) and (inputs is None or "flops" not in inputs):
        questions = [(role, text) for role, text in questions if role != "flops"]
    if "n_tokens" not in chosen and "planned_tokens" in chosen and (inputs is None or "n_tokens" in inputs):
        chosen["n_tokens"] = chosen.pop("planned_tokens")
        text = f"n_tokens is read from {chosen['n_tokens']!r}, planned tokens: no column has the tokens trained on."
        log.append(LogEntry("recognised", "warning", text, columns=(chosen["n_tokens"],)))
    if response:
        entries, question = respond(cells, chosen, taken)
        log += entries
        questions += question
    if questions:
        raise InputError(" ".join(text for _, text in questions))
    if "loss" in chosen and "value_se" not in chosen:
        about = {*words_of(chosen["loss"]), "value", "loss"}
        noise = {"se", "stderr", "sem", "standard", "error", "std", "err"}
        errors = [head for head in cells.with_role("value_se") if set(words_of(head.name)) - noise <= about]
        if len(errors) == 1:
            chosen["value_se"] = errors[0].name
    return chosen, log


def with_prefixes(fixed: Mapping[str, str], frame: pd.DataFrame) -> dict[str, str]:
    """Return the columns that the caller gave, with the prefixes that experiment trackers put before their names.

    A column that does not exist is replaced by the only one whose name ends with it after a dot, such as
    `summary.eval/loss` for `eval/loss`.

    Example:
        >>> with_prefixes({"loss": "eval/loss"}, pd.DataFrame(columns=["summary.eval/loss", "config.lr"]))
        {'loss': 'summary.eval/loss'}
    """
    names = [str(name) for name in frame.columns]
    longer = {theirs: [name for name in names if name.endswith(f".{theirs}")] for theirs in fixed.values()}
    return {
        ours: longer[theirs][0] if theirs not in names and len(longer[theirs]) == 1 else theirs
        for ours, theirs in fixed.items()
    }


def check_named(cells: Cells, fixed: Mapping[str, str], inputs: Sequence[str]) -> None:
    """Refuse columns given by the caller that do not exist, are given twice, or would have no effect.

    Raises:
        InputError: With the most similar column name.
    """
    for ours, theirs in fixed.items():
        said = f"columns={{{ours!r}: {theirs!r}}} (--column {ours}={shell(theirs)})"
        swapped = ours in cells.heads and theirs in ROLES
        other = (
            f" bayescale's name comes first: write columns={{{theirs!r}: {ours!r}}} (--column {theirs}={shell(ours)})."
        )
        if theirs not in cells.heads:
            hint = other if swapped else f" {nearest(theirs, cells.heads)}"
            raise InputError(f"There is no column {theirs!r}.{hint}")
        if ours not in ROLES and ours not in inputs:
            hint = other if swapped else f" {nearest(ours, ROLES)}"
            raise InputError(
                f"{said} has no effect, because {ours!r} is neither one of bayescale's column names nor a requested "
                f"input (inputs=, --input {ours}).{hint}"
            )
        if double := [role for role, column in fixed.items() if column == theirs and role != ours]:
            raise InputError(f"Column {theirs!r} is given for both {ours} and {double[0]}; give it for only one.")


def label(cells: Cells, role: str, found: list[Heading], chosen: Mapping[str, str]) -> str | None:
    """Choose the column for a label; None if no column fits."""
    order = EXACT.get(role, ())

    def rank(head: Heading) -> tuple[bool, int]:
        joined = "_".join(words_of(head.name))
        return (not head.exact, order.index(joined) if joined in order else len(order))

    for head in sorted(found, key=rank):
        values = cells.frame[head.name].astype(str)
        distinct = values.nunique()
        if role == "family" and not head.exact and len(values) > 2 and distinct == len(values):
            # Values that differ in every row are names of runs, not of families.
            continue
        if role == "family" and not head.exact and sizes_only(cells, head.name):
            # Values that differ only between sizes are names of sizes, not of families.
            continue
        if role == "run" and not head.exact and distinct < len(values) and not {"step", "seed"} & {
            other.role for other in cells.heads.values()
        }:  # fmt: skip
            # Names that repeat, without a step or seed that distinguishes the rows, are names of models, not of runs.
            continue
        return head.name
    return None


def sizes_only(cells: Cells, column: str) -> bool:
    """Return whether each value of a column of labels occurs at one scale only, in a table with several scales."""
    scales = cells.with_role("n_params", "flops", "n_tokens")
    values = pd.DataFrame({head.name: cells.counts(head.name) for head in scales}, cells.frame.index)
    groups = values.groupby(cells.frame[column].astype(str))
    return (
        bool(len(scales)) and len(values.drop_duplicates()) > 1 and all(len(g.drop_duplicates()) < 2 for _, g in groups)
    )


def scale(
    cells: Cells, role: str, found: list[Heading], chosen: Mapping[str, str]
) -> tuple[str | None, list[LogEntry], list[tuple[str, str]]]:
    """Choose the column of a scale input.

    Returns:
        The column or None, log entries about the choice, and questions to the user, each with its role.
    """
    if role == "n_params":
        found = [head for head in found if head.kind != "size" or cells.numbers(head.name).suffixed.any()]
        if not found:
            return sizes(cells, chosen), [], []
    # A column without any number, such as d512, is a label.
    found = [head for head in found if head.exact or np.isfinite(cells.numbers(head.name, compute=True).values).any()]
    if not found:
        return None, [], []
    exact = [head for head in found if head.exact]
    best = exact[0] if exact else found[0]
    if len(found) == 1:
        return best.name, [], []
    values = {head.name: cells.counts(head.name) for head in found}
    differ = [name for name, value in values.items() if not np.allclose(value, values[best.name], equal_nan=True)]
    listed = ", ".join(repr(head.name) for head in found)
    if not differ:
        return best.name, [], []
    if exact:
        text = f"{role} is read from the column of this name. Other candidates: {some([repr(n) for n in differ])}. "
        text += f"To use another column: --column {role}={differ[0]}."
        return best.name, [LogEntry("recognised", "warning", text, columns=tuple(differ))], []
    achieved = [head.name for head in found if head.kind == "achieved"]
    if role == "n_tokens" and len(achieved) == 1:
        text = f"n_tokens is read from {achieved[0]!r}, the tokens trained on. Candidates were {listed}. "
        text += "To use another column: --column n_tokens=..."
        return achieved[0], [LogEntry("recognised", "warning", text, columns=tuple(values))], []
    if role == "n_params" and "n_tokens" in chosen and "flops" in chosen:
        compute, tokens = cells.counts(chosen["flops"]), cells.counts(chosen["n_tokens"])
        gaps = {}
        for name, value in values.items():
            with np.errstate(all="ignore"):
                ratio = np.abs(np.log(compute / (6.0 * value * tokens)))
            ratio = ratio[np.isfinite(ratio)]
            gaps[name] = float(np.median(ratio)) if len(ratio) else np.inf
        first, second = sorted(gaps, key=gaps.__getitem__)[:2]
        if gaps[first] < SAME_COMPUTE and gaps[second] > 3.0 * SAME_COMPUTE:
            text = (
                f"n_params is read from {first!r}, because {chosen['flops']!r} is 6 N D with this column. Candidates "
                f"were {listed}. To use another column: --column n_params={second}."
            )
            return first, [LogEntry("recognised", "warning", text, columns=tuple(values))], []
    text = f"{len(found)} columns may be {role}: {listed}; choose with columns={{'{role}': {found[0].name!r}}} "
    return None, [], [(role, text + f"(--column {role}={shell(found[0].name)}).")]


def sizes(cells: Cells, chosen: Mapping[str, str]) -> str | None:
    """Return a column of names that are sizes in every row, such as 160M; None if there is none."""
    for name in cells.heads:
        if "_".join(words_of(name)) in SIZE_NAMES and not cells.empty(name):
            read = cells.numbers(name)
            filled = [not missing(value) for value in cells.frame[name]]
            if not read.unreadable and all(read.suffixed[filled]):
                return name
    return None


def respond(cells: Cells, chosen: dict[str, str], taken: set[str]) -> tuple[list[LogEntry], list[tuple[str, str]]]:
    """Choose the response and the training loss, which are added to `chosen`.

    Return log entries, and questions to the user.
    """
    found = [head for head in cells.with_role("loss", "train_loss") if head.name not in taken]
    found = [head for head in found if head.exact or np.isfinite(cells.numbers(head.name).values).any()]
    # Whole numbers in a column L are numbers of layers.
    found = [head for head in found if head.name != "L" or (cells.counts("L") % 1 > 0).any()]
    train = [head for head in found if head.role == "train_loss" or head.kind.endswith("train")]
    others = [head for head in found if head not in train]
    if len(train) == 1 and others + [1] * ("loss" in chosen) and "train_loss" not in chosen:
        chosen["train_loss"] = train[0].name
    if "loss" in chosen:
        return [], []
    value = cells.with_role("value")
    if value and ("metric" in chosen or not found):
        chosen["loss"] = value[0].name
        return [], []
    exact = [head for head in others if "_".join(words_of(head.name)) == "loss"]
    tiers = [[head for head in others if head.kind.split()[0] == kind] for kind in ("loss", "error")]
    tiers += [train, [head for head in others if head.kind.startswith("score")]]
    first = next((tier for tier in tiers if tier), [])
    if exact:
        chosen["loss"] = exact[0].name
        rest = [head.name for head in tiers[0] if head is not exact[0]]
        if not rest:
            return [], []
        text = f"loss is read from {exact[0].name!r}. Other candidates: {some([repr(name) for name in rest])}. "
        text += f"To use another column: --column loss={shell(rest[0])}."
        return [LogEntry("recognised", "warning", text, columns=tuple(rest))], []
    if not first:
        if "correct" in chosen:
            return [], [
                (
                    "loss",
                    "The table has counts of right items but no loss. Fit them as a score with score='correct' "
                    "(--score correct), or as an error rate, 1 - correct / items, with derive='error_rate' (--derive "
                    "error_rate).",
                )
            ]
        return [], [("loss", no_loss(cells, chosen))]
    if len(first) > 1:
        same = [head for head in first if not np.allclose(
            cells.counts(head.name), cells.counts(first[0].name), equal_nan=True)]  # fmt: skip
        if same:
            listed = some([repr(head.name) for head in first], 8)
            text = f"{len(first)} columns may be the loss: {listed}; choose with loss={first[0].name!r} "
            return [], [("loss", text + f"(--column loss={shell(first[0].name)}).")]
    best = first[0]
    chosen["loss"] = best.name
    if first is tiers[2]:
        chosen.pop("train_loss", None)
        text = f"loss is read from {best.name!r}, a training loss, because no column has a loss on held-out data."
        return [LogEntry("recognised", "warning", text, columns=(best.name,))], []
    return [], []


def no_loss(cells: Cells, chosen: Mapping[str, str]) -> str:
    """Return the error message for a table without a response, with the columns that might be it."""
    names = list(cells.heads)
    numeric = [
        name for name in names if name not in chosen.values() and np.isfinite(cells.numbers(name).values).any()
    ]  # fmt: skip
    yours = (numeric or ["your_column"])[-1]
    empty = [name for name in names if "loss" in words_of(name) and not np.isfinite(cells.numbers(name).values).any()]
    if empty:
        return (
            f"Column {empty[0]!r} has no number in any row, so there is no loss. Fill it in, or give another column "
            f"with columns={{'loss': '{yours}'}} (--column loss={shell(yours)})."
        )
    return (
        f"A column 'loss' (or 'metric' and 'value') is needed; found {some(names, 8)}. "
        f"Name yours with columns={{'loss': '{yours}'}} (--column loss={shell(yours)})."
    )


def shell(name: str) -> str:
    """Return a name quoted so that a shell reads it as one word."""
    return name if all(c.isalnum() or c in "_-./@" for c in name) else f'"{name}"'
