"""Plan of a joint fit of several metrics: rows matched between metrics, and the models on one common scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._record import Array, record, static
from bayescale.data.design import measured_rows, measurement_variance, reduce_runs
from bayescale.data.ray import Ray, find_ray
from bayescale.data.runs import Runs
from bayescale.data.runs import checked as checked_runs
from bayescale.errors import InputError, counted, nearest, some
from bayescale.model.choice import ModelChoice, choose_model, scale_of
from bayescale.model.designs import shape_weights
from bayescale.model.discrepancy import eigenbasis, kernel
from bayescale.model.padding import bucket, padded, padded_square
from bayescale.model.prepare import axis_positions, jobs_of
from bayescale.model.problem import SAME_DIGITS, Job

if TYPE_CHECKING:
    from jaxtyping import Float

FEWEST_SHARED = 3
"""Smallest number of rows that each metric shares with another; fewer say next to nothing about correlations."""
MOST_ROWS = 300
"""Largest number of losses of all metrics together: the time of a fit grows with its third power."""
MOST_METRICS = 8
"""Largest number of metrics."""


@record
class Joint:
    """The rows of all metrics: one row for each measured setting of each run, padded to a bucket.

    Attributes:
        z: ln(x / reference), shape (row, input).
        y: ln(loss) minus the centre of the metric, zero where it was not measured, shape (metric, row).
        mask: 1 where a metric was measured, shape (metric, row).
        real: 1 for rows, 0 for padding, shape (row,).
        error: Known squared standard errors of ln(loss), shape (metric, row).
        kernel: Covariance of a discrepancy with unit amplitude, shape (row, row).
        alike: 1 where two rows have the same residual, shape (row, row).
        shared: 1 where two rows have the same seed noise, shape (row, row).
        vectors: Eigenvectors of `kernel` in columns, shape (row, row).
        eigenvalues: Eigenvalues of `kernel`, shape (row,).
        complete: Whether every row has all metrics, its own residual and seed, and equal errors. In the eigenbasis of
            the discrepancy, rows are then independent of each other.
        settled: Whether a new run at a fitted setting shares the residual there.
    """

    z: Float[Array, "row input"]
    y: Float[Array, "metric row"]
    mask: Float[Array, "metric row"]
    real: Float[Array, "row"]
    error: Float[Array, "metric row"]
    kernel: Float[Array, "row row"]
    alike: Float[Array, "row row"]
    shared: Float[Array, "row row"]
    vectors: Float[Array, "row row"]
    eigenvalues: Float[Array, "row"]
    complete: bool = static()
    settled: bool = static()

    @property
    def rows(self) -> int:
        """Number of rows without padding."""
        return int(np.sum(self.real))


@dataclasses.dataclass(frozen=True)
class MetricsPlan:
    """Models of several metrics of the same runs.

    Attributes:
        names: Names of the metrics.
        jobs: For each component of the mixture, the model of each metric.
        weights: Weight of each component.
        joint: The rows of all metrics.
        ray: The ray along which one of several inputs is fitted, or None.
    """

    names: tuple[str, ...]
    jobs: tuple[tuple[Job, ...], ...]
    weights: tuple[float, ...]
    joint: Joint
    ray: Ray | None = None

    def with_responses(self, y: np.ndarray) -> MetricsPlan:
        """Return the plan with other responses on the same scale, for simulations.

        Args:
            y: ln(loss) minus the centre of the metric, shape (metric, row); only for rows that are all complete.
        """
        rows = self.joint.rows
        full = np.zeros(np.shape(self.joint.y))
        full[:, :rows] = y

        def renewed(job: Job, own: np.ndarray) -> Job:
            # The rows of a problem may have another order than those of the plan.
            there = np.asarray(job.problem.z)[: job.problem.rows]
            apart = np.abs(there[:, None] - np.asarray(self.joint.z)[None, :rows]).max(-1)
            problem = dataclasses.replace(job.problem, y=padded(own[apart.argmin(1)], len(job.problem.y)))
            return dataclasses.replace(job, problem=problem)

        jobs = tuple(tuple(renewed(job, own) for job, own in zip(part, y, strict=True)) for part in self.jobs)
        return dataclasses.replace(self, jobs=jobs, joint=dataclasses.replace(self.joint, y=full))


def plan_metrics(metrics: Any, law: Any, **options: Any) -> MetricsPlan:
    """Check several metrics of the same runs, match their rows, and reduce them to arrays on one common scale.

    Args:
        metrics: Runs by the name of the metric.
        law: A law or its name, or one for each metric.
        **options: Options of the model, with their values: discrepancy, likelihood, priors, design.

    Raises:
        InputError: For impossible data or names.
    """
    named = named_metrics(metrics)
    laws = laws_of(named, law)
    first = next(iter(named.values()))
    everything = pd.concat([runs.frame for runs in named.values()], ignore_index=True)
    automatic = all(isinstance(one, str) and one == "auto" for one in laws.values())
    one_ray = all(runs.one_ray is not False for runs in named.values())
    ray = find_ray(everything, first.inputs) if automatic and one_ray else None
    inputs = first.inputs if ray is None else ray.names[:1]
    models = {name: choose_model(laws[name], inputs, False, **options) for name in named}
    refuse_apart(models)
    columns = list(dict.fromkeys((*first.inputs, *next(iter(models.values())).law.inputs)))
    keys, labels = match_rows(named, columns)
    union = dataclasses.replace(first, frame=union_frame(named, keys), name="all metrics")
    refuse_few(named, keys)
    whole = jobs_of(union, next(iter(models.values())), ray)[0]
    scale = scale_of(whole)
    jobs = {name: centred_jobs(runs, models[name], scale, ray) for name, runs in named.items()}
    number = max(map(len, jobs.values()))
    parts = tuple(tuple(own[c if len(own) > 1 else 0] for own in jobs.values()) for c in range(number))
    model = next(model for model in models.values() if len(model.laws) == number)
    weights = (1.0,)
    if number > 1:
        weights = tuple(shape_weights(model.design, model.discrepancy is None).values())
    joint = join_rows(named, keys, labels, parts[0], union)
    return MetricsPlan(tuple(named), parts, weights, joint, ray)


def named_metrics(metrics: Any) -> dict[str, Runs]:
    """Return the runs of each metric by its name.

    Raises:
        InputError: For anything that is not a mapping from names to losses of one family with the same inputs.
    """
    checked.mapping("metrics", metrics, "{'c4': runs, 'code': other_runs}")
    if not 2 <= len(metrics) <= MOST_METRICS:
        raise InputError(
            f"A joint fit takes 2 to {MOST_METRICS} metrics; found {len(metrics)}. Fit one metric with bs.fit."
        )
    found: dict[str, Runs] = {}
    for name, runs in metrics.items():
        if not isinstance(name, str):
            raise InputError(f"Names of metrics are texts; found {checked.shortened(name)}.")
        if len(checked_runs(runs).families) > 1:
            raise InputError(
                f"{name} holds {len(runs.families)} families ({some(runs.families)}); give the metrics of one family."
            )
        if runs.response_scale is not None:
            raise InputError(
                f"{name} holds a {runs.response_kind}, and a joint fit takes losses only. Fit it by itself with "
                "bs.fit, or read a loss or an error rate of the same runs instead."
            )
        found[name] = dataclasses.replace(runs, name=name)
    first, *others = found
    for name in others:
        if found[name].inputs != found[first].inputs:
            raise InputError(
                f"All metrics need the same inputs; {first} has {some(found[first].inputs) or 'none'}, and {name} has "
                f"{some(found[name].inputs) or 'none'}. Choose them with bs.read(..., inputs=...)."
            )
    return found


def laws_of(named: Mapping[str, Runs], law: Any) -> dict[str, Any]:
    """Return the law of each metric.

    Raises:
        InputError: For laws by name that leave out a metric or name another one.
    """
    if not isinstance(law, Mapping):
        return dict.fromkeys(named, law)
    for name in law:
        if name not in named:
            raise InputError(f"law= names the metric {name!r}, which is not given. {nearest(str(name), named)}")
    if missing := [name for name in named if name not in law]:
        raise InputError(f"law= gives laws by metric, and {missing[0]} has none. Add it, or give one law for all.")
    return dict(law)


def refuse_apart(models: Mapping[str, ModelChoice]) -> None:
    """Refuse laws whose discrepancies do not lie on the same axes, or whose mixtures differ, and Student-t noise.

    Raises:
        InputError: With the two metrics.
    """
    (first, one), *others = models.items()
    if one.likelihood.tail is not None:
        raise InputError(
            "A joint fit takes a normal likelihood only; leave out likelihood=, or fit each metric with bs.fit."
        )
    for name, other in others:
        if one.law.inputs != other.law.inputs or one.law.axes != other.law.axes:
            raise InputError(
                f"The laws of all metrics need the same inputs and axes; {one.law.name} of {first} has "
                f"{some(one.law.inputs)}, and {other.law.name} of {name} has {some(other.law.inputs)}. Choose laws of "
                "the same inputs with law=."
            )
        if 1 not in (len(one.laws), len(other.laws)) and len(one.laws) != len(other.laws):
            raise InputError(
                f"{first} is fitted as a mixture of {len(one.laws)} models, and {name} as one of {len(other.laws)}. "
                "Choose one law for both with law=."
            )


def match_rows(named: Mapping[str, Runs], inputs: Sequence[str]) -> tuple[dict[str, list[Any]], tuple[str, ...]]:
    """Return a key of each metric's rows that is equal for measurements of one run, and the columns of names in it.

    Args:
        named: Runs by the name of the metric.
        inputs: Names of the inputs.

    Raises:
        InputError: For runs at equal inputs without names, and for a run whose inputs differ between metrics.
    """
    frames = {name: runs.frame for name, runs in named.items()}
    labels = ("run", "seed") if all("run" in frame for frame in frames.values()) else ()
    labels = tuple(label for label in labels if all(label in frame for frame in frames.values()))
    keys: dict[str, list[Any]] = {}
    for name, frame in frames.items():
        if absent := [column for column in inputs if column not in frame]:
            raise InputError(f"{name} lacks the input {absent[0]}, which the law needs.")
        logs = np.round(np.log(frame[list(inputs)].to_numpy(float)), SAME_DIGITS) + 0.0
        names = frame[list(labels)].astype(str).to_numpy(object) if labels else np.zeros((len(frame), 0), object)
        keys[name] = [(*own, *row) for own, row in zip(names, logs.tolist(), strict=True)]
        if len(set(keys[name])) < len(keys[name]):
            raise InputError(
                f"Some rows of {name} are equal in {', '.join((*labels, *inputs))}, so it is not known which losses "
                "of other metrics belong to the same run. Give each run a name in a column run, in all metrics."
            )
    if labels:
        refuse_moved(keys, len(labels), inputs)
    return keys, labels


def refuse_moved(keys: Mapping[str, list[Any]], width: int, inputs: Sequence[str]) -> None:
    """Refuse a run that was measured once for each metric, at different inputs.

    Args:
        keys: See `match_rows`.
        width: Number of names in each key.
        inputs: Names of the inputs.

    Raises:
        InputError: With the run.
    """
    places: dict[Any, dict[str, list[Any]]] = {}
    for name, rows in keys.items():
        for row in rows:
            places.setdefault(row[:width], {}).setdefault(name, []).append(row[width:])
    for run, found in places.items():
        single = {name: rows[0] for name, rows in found.items() if len(rows) == 1}
        if len(single) == len(found) and len(set(single.values())) > 1:
            one, other = list(single)[:2]
            raise InputError(
                f"Run {', '.join(run)} has other values of {', '.join(inputs)} in {one} than in {other} or a further "
                "metric. Correct the inputs, or give different runs different names."
            )


def refuse_few(named: Mapping[str, Runs], keys: Mapping[str, list[Any]]) -> None:
    """Refuse metrics that share too few rows with the others, and too many losses.

    Raises:
        InputError: With the numbers.
    """
    for name in named:
        shared = max(len(set(keys[name]) & set(keys[other])) for other in named if other != name)
        if shared < FEWEST_SHARED:
            raise InputError(
                f"{name} shares {counted(shared, 'row')} with another metric, and at least {FEWEST_SHARED} are needed. "
                "Rows match if run (and seed) and inputs agree. Fit it by itself with bs.fit."
            )
    total = sum(map(len, named.values()))
    # Averaged checkpoints of two metrics would not match.
    averaged = [name for name, runs in named.items() if len(measured_rows(runs, no_exempt(runs)).y) < len(runs)]
    if total > MOST_ROWS or averaged:
        found = f"{averaged[0]} has {len(named[averaged[0]])} checkpoints" if averaged else f"found {total}"
        raise InputError(
            f"A joint fit takes at most {MOST_ROWS} losses of all metrics together, and 64 checkpoints of one run; "
            f"{found}. Keep fewer with runs.thinned(most=40), which keeps the same rows for every metric."
        )


def no_exempt(runs: Runs) -> np.ndarray:
    """Return that the checkpoints of no input are exempt from averaging, shape (input,)."""
    return np.zeros(len(runs.inputs), bool)


def union_frame(named: Mapping[str, Runs], keys: Mapping[str, list[Any]]) -> pd.DataFrame:
    """Return one row for each key, with its first measured loss, in order of appearance."""
    frame = pd.concat([runs.frame.assign(key=keys[name]) for name, runs in named.items()], ignore_index=True)
    return frame.drop_duplicates("key", ignore_index=True)


def centred_jobs(runs: Runs, model: ModelChoice, scale: Any, ray: Ray | None) -> tuple[Job, ...]:
    """Return the models of one metric on the scale of all metrics, but with its own mean of ln(loss)."""
    own = dataclasses.replace(runs, inputs=model.law.inputs)
    center = float(reduce_runs(own, exempt=model.law.exempt, one_scale=True).center)
    scales = (dataclasses.replace(scale, center=center),) * len(model.laws)
    return jobs_of(runs, dataclasses.replace(model, scales=scales), ray)


def join_rows(
    named: Mapping[str, Runs],
    keys: Mapping[str, list[Any]],
    labels: Sequence[str],
    jobs: Sequence[Job],
    union: Runs,
) -> Joint:
    """Return the rows of all metrics as arrays.

    Args:
        named: Runs by the name of the metric.
        keys: See `match_rows`.
        labels: Columns of names in the keys.
        jobs: The model of each metric.
        union: One row for each key.
    """
    job, rows = jobs[0], len(union)
    place = {key: number for number, key in enumerate(union.frame["key"])}
    y, mask, error = np.zeros((3, len(named), rows))
    for number, (name, runs) in enumerate(named.items()):
        own = [place[key] for key in keys[name]]
        y[number, own] = np.log(runs.frame["loss"].to_numpy()) - float(jobs[number].problem.center)
        mask[number, own], error[number, own] = 1.0, measurement_variance(runs)
    z = np.log(union.frame[list(job.law.inputs)].to_numpy(float)) - np.log(job.reference)
    whole = np.zeros((rows, rows))
    if job.model.discrepancy is not None:
        point = axis_positions(job.model.law, job.problem, job.low, z)
        whole = kernel(point, point, job.model.discrepancy)
    _, setting = np.unique(np.round(z, SAME_DIGITS), axis=0, return_inverse=True)
    run = union.frame.groupby(list(labels), sort=False).ngroup().to_numpy() if labels else np.arange(rows)
    one_run, own = len(np.unique(run)) == 1, len(np.unique(run)) == rows
    settings, same_run = same(setting.ravel()), same(run)
    alike = settings if own or one_run else np.eye(rows)
    shared = np.zeros((rows, rows)) if one_run else same_run
    eigenvalues, vectors = eigenbasis(whole)
    complete = bool(mask.all()) and np.ptp(error, axis=1).max() < 1e-12 and bool((alike == np.eye(rows)).all())
    complete = complete and (one_run or own)
    # Padding costs little where rows are independent, and much where a matrix of all rows is factorised.
    size = bucket(rows) if complete else -(-rows // 4) * 4
    return Joint(
        z=padded(z, size),
        y=padded(y.T, size).T,
        mask=padded(mask.T, size).T,
        error=padded(error.T, size).T,
        real=padded(np.ones(rows), size),
        kernel=padded_square(whole, size),
        alike=padded_square(alike, size),
        shared=padded_square(shared, size),
        vectors=padded_square(vectors, size),
        eigenvalues=padded(eigenvalues, size),
        complete=complete,
        settled=own and not one_run,
    )


def same(labels: np.ndarray) -> np.ndarray:
    """Return 1 where two labels are equal, shape (row, row)."""
    return (labels[:, None] == labels[None, :]).astype(float)
