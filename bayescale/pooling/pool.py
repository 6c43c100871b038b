"""Pool: one hierarchical posterior over similar families."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.data.log import LogEntry
from bayescale.data.runs import Runs
from bayescale.data.runs import checked as checked_runs
from bayescale.errors import InputError, counted, nearest
from bayescale.fitting.options import FitOptions, list_fit_options, request_fit
from bayescale.inference.nuts import Nuts
from bayescale.laws.law import Law
from bayescale.laws.priors import Prior
from bayescale.pooling.covariates import Covariates, Value, counted_alike, find_covariates, recounted
from bayescale.pooling.families import Plan, named_families, plan_families, refuse_mixed, refuse_units
from bayescale.pooling.group_fit import Group, fit_further, fit_group
from bayescale.pooling.quantities import Quantity, find_quantities
from bayescale.pooling.tables import correlation_rows, described, effect_rows, group_row
from bayescale.posterior.fitted import Fitted, component_labels
from bayescale.posterior.mixture import combine


@list_fit_options(method="auto")
def pool(
    families: Mapping[str, Runs] | Sequence[Runs] | Runs,
    law: str | Law = "auto",
    *,
    pooled: Sequence[str] | None = None,
    shared: Sequence[str] = (),
    covariates: Any = None,
    correlated: bool = False,
    seed: int,
    **options: Unpack[FitOptions],
) -> Pool:
    """Sample one hierarchical posterior over similar families (partial pooling).

    The values of a pooled quantity in different families are draws from one distribution, whose mean and standard
    deviation are learned. A shared quantity has one value in all families. All other quantities are free, with the
    prior that a fit of one family has. A family with few runs, or even one, therefore gets exponents close to those of
    the others.

    These can be pooled or shared: the exponents of a law and other constants that do not depend on the scale of the
    runs, by their names; the irreducible loss (floor) of a law with one, such as `E` of "saturating_power"; and the
    standard deviations `residual_sd`, `seed_sd` and `discrepancy` (that of a law whose logarithm decreases by 1 over
    the runs).

    Covariates, such as the architecture, move the mean of each pooled quantity. Levels of a category have effects that
    sum to zero, with a normal prior whose standard deviation is half of that of the mean over families; numbers are
    standardised over families. A correlated pool learns the correlation matrix of the pooled quantities as well, with
    the prior LKJ(2).

    Args:
        families: Runs by the family's name, a list of runs, or runs of several families.
        law: See `fit`; one law for all families.
        pooled: Names of the pooled quantities; by default the exponents of the law.
        shared: Names of the shared quantities.
        covariates: A table with one row for each family (index: its name), values by family by covariate or the
            reverse, or names of columns of the runs with one value in each family.
        correlated: Whether pooled quantities, of which there must be two or more, are correlated over families.
        seed: Seed of all random numbers.
        **options: Options of the fits, see `fit`. By default `method` is "auto": importance sampling, followed by NUTS
            if diagnostics are poor.

    Returns:
        A `Pool`: a posterior for each family, and the distribution over families.

    Raises:
        InputError: For families or quantities that cannot be pooled.

    Example:
        >>> import bayescale as bs
        >>> table = bs.read("runs.csv", family="recipe")  # doctest: +SKIP
        >>> joint = bs.pool(table, "saturating_power", pooled=("c",), shared=("E",), seed=0)  # doctest: +SKIP
        >>> joint["wide"].predict(flops=1e24)  # doctest: +SKIP
    """
    told: Any = {"method": "auto", **options}
    request = request_fit(law, seed, told)
    checked.options(correlated=(correlated, checked.FLAG))
    named = named_families(families)
    known = find_covariates(covariates, named)
    named, common = counted_alike(named, known)
    known = None if known is None else dataclasses.replace(known, counted=common)
    refuse_mixed(named)
    pooled = None if pooled is None else names_in("pooled", pooled)
    plan = plan_families(named, law, pooled, names_in("shared", shared), request.model)
    parts = group_quantities(plan)
    refuse_units(named, [quantity.name for quantity in parts[0] if quantity.kind == "floor"])
    refuse_useless(parts[0], known, correlated)
    design = None if known is None else known.design
    further: Any = {"design": design, "correlated": correlated}
    found = [
        fit_group([jobs[number] for jobs in plan.jobs], own, seed, request.settings, request.method, number, **further)
        for number, own in enumerate(parts)
    ]
    fits = {
        name: combine([posteriors[i] for posteriors, _ in found], plan.weights) for i, name in enumerate(plan.names)
    }
    return Pool(fits, tuple(group for _, group in found), plan, seed, request.settings, request.method, known)


def refuse_useless(quantities: Sequence[Quantity], covariates: Covariates | None, correlated: bool) -> None:
    """Refuse correlations of fewer than two pooled quantities, and covariates of none.

    Raises:
        InputError: With the option to leave out.
    """
    pooled = [quantity.name for quantity in quantities if not quantity.shared]
    if correlated and len(pooled) < 2:
        raise InputError(
            f"correlated=True (--correlated) needs two or more pooled quantities; found {', '.join(pooled) or 'none'}. "
            "Name more with pooled= (--pooled), or leave it out."
        )
    if covariates is not None and not pooled:
        raise InputError(
            "Covariates change the means of pooled quantities, and none is pooled. Name some with pooled= (--pooled), "
            "or leave out covariates= (--covariate)."
        )


def group_quantities(plan: Plan) -> list[tuple[Quantity, ...]]:
    """Return the pooled and shared quantities of each component of a plan."""
    return [find_quantities(job, plan.pooled, plan.shared) for job in plan.jobs[0]]


def names_in(option: str, names: Any) -> tuple[str, ...]:
    """Return the names given to an option, which may be one or several.

    Raises:
        InputError: For anything other than names.
    """
    found = (names,) if isinstance(names, str) else tuple(names) if isinstance(names, list | tuple) else None
    if found is None or not all(isinstance(name, str) for name in found):
        raise InputError(f'{option} takes names, e.g. {option}=("c",); found {checked.shortened(names)}.')
    return tuple(dict.fromkeys(found))


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class Pool(Display):
    """A hierarchical posterior over families.

    Attributes:
        fits: Posterior of each family, by its name; each has the methods of a result of `fit`.
        groups: Distribution over families: one, or one for each component of a mixture.
        plan: The models of the families.
        seed: Seed of the pool.
        settings: Settings of the fits.
        method: Sampler of the fits.
        covariates: Covariates of the families, or None.
    """

    fits: dict[str, Fitted]
    groups: tuple[Group, ...]
    plan: Plan
    seed: int
    settings: Nuts
    method: str
    covariates: Covariates | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the families."""
        return tuple(self.fits)

    @property
    def law(self) -> Law:
        """The law."""
        return self.plan.jobs[0][0].law

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the scale inputs of the runs."""
        ray = self.plan.jobs[0][0].ray
        return self.law.inputs if ray is None else ray.names

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Return the pooled and shared quantities."""
        return self.groups[0].quantities

    def __getitem__(self, name: str) -> Fitted:
        """Return the posterior of a family.

        Raises:
            InputError: For a name that no family has.
        """
        if name not in self.fits:
            raise InputError(f"There is no family {name!r}. {nearest(str(name), self.fits)}")
        return self.fits[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the families."""
        return iter(self.fits)

    def __len__(self) -> int:
        """Count the families."""
        return len(self.fits)

    @property
    def converged(self) -> bool:
        """Return whether the chains of all groups agree, and the draws of all families suffice."""
        return all(group.converged for group in self.groups) and not self.doubtful

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Names of the families whose draws did not converge."""
        return tuple(name for name, fit in self.fits.items() if fit.status.name != "OK")

    @property
    def labels(self) -> list[str]:
        """Return labels that distinguish the groups; an empty label for a single group."""
        return [""] if len(self.groups) == 1 else component_labels(next(iter(self.fits.values())))

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return a table of the pooled and shared quantities, one row for each quantity and model.

        `median`, `low` and `high` describe the mean over families. `sd` is the standard deviation over families (of
        logarithms, or of logits for fractions), with its interval. `new_low` and `new_high` are the interval for a new
        family, with covariates of average effect. `learned` is 1 - posterior variance / prior variance of the mean over
        families.

        A row such as "c, architecture=routed" has the effect of a level, or of one standard deviation of a number, on
        the scale of `sd`, and the interval for a new family with it. A row such as "c with residual_sd" has a
        correlation over families.

        Args:
            level: Central probability of the intervals.
        """
        checked.options(level=(level, checked.PROBABILITY))
        rows = []
        for group, label in zip(self.groups, self.labels, strict=True):
            own = [group_row(group, number, quantity, level) for number, quantity in enumerate(group.quantities)]
            own += [*effect_rows(group, self.covariates, level), *correlation_rows(group, level)]
            rows += [row | ({"component": label} if label else {}) for row in own]
        return pd.DataFrame(rows).set_index("quantity")

    def families(self, level: float = 0.9) -> pd.DataFrame:
        """Return a table of the families: rows, status, and median and interval of the pooled and shared quantities.

        Args:
            level: Central probability of the intervals.
        """
        checked.options(level=(level, checked.PROBABILITY))
        ends = [0.5 - level / 2, 0.5, 0.5 + level / 2]
        rows = []
        for name, fit in self.fits.items():
            row: dict[str, Any] = {"family": name, "runs": len(fit.runs), "status": fit.status.name}
            values = {} if self.covariates is None else self.covariates.values[name]
            row |= {key: value for key, value in values.items() if key not in row}
            for quantity in self.quantities:
                low, middle, high = np.quantile(fit.draws[quantity.name], ends)
                row |= {quantity.name: middle, f"{quantity.name}_low": low, f"{quantity.name}_high": high}
            rows.append(row)
        return pd.DataFrame(rows).set_index("family")

    def prior(self, *, covariates: Mapping[str, Value] | None = None) -> dict[str, Prior]:
        """Return priors of the pooled and shared constants for a new family, for `fit(runs, law, priors=...)`.

        They are normal distributions (of logarithms or logits) that approximate the distribution of a new family.
        Floors are left out, because their prior is relative to the runs, and so are standard deviations, which are no
        constants of the law. Correlations are left out too, because these priors are independent. The method
        `Pool.fit` uses everything that the pool has learned.

        Args:
            covariates: Values of the covariates of the new family, for a pool with covariates.

        Raises:
            InputError: For a mixture of laws, whose exponents differ, a pool without such constants, and covariates
                that are missing or unknown.

        Example:
            >>> bs.fit(few_runs, joint.law.name, priors=joint.prior(), seed=0)  # doctest: +SKIP
        """
        if len(self.groups) > 1:
            raise InputError(
                f"{self.law.name} is a mixture of models whose exponents differ, so one prior does not fit all; use "
                "joint.fit(runs), or pool one law, e.g. law='saturating_power'."
            )
        group, found = self.groups[0].at(*self.place(covariates)[:2]), {}
        for quantity, (mean, sd) in zip(group.quantities, group.predictive(), strict=True):
            if quantity.name not in self.law.priors or quantity.kind == "floor":
                continue
            numbers = {"median": float(np.exp(mean))} if quantity.kind == "log" else {"mean": mean}
            found[quantity.name] = dataclasses.replace(self.law.priors[quantity.name], **numbers, sd=sd)
        if not found:
            raise InputError(
                "None of the pooled and shared quantities is a constant with its own prior, so there is no "
                "prior to return. Use joint.fit(runs)."
            )
        return found

    def place(self, given: Any, runs: Runs | None = None) -> tuple[np.ndarray | None, int, tuple[LogEntry, ...]]:
        """Return the design of a new family, the number of its unknown levels, and log entries about them.

        Raises:
            InputError: For covariates that are missing, unknown, or given to a pool without covariates.
        """
        if self.covariates is None:
            if given is not None:
                raise InputError(
                    "This pool has no covariates; leave out covariates=, or pool with bs.pool(..., covariates=...)."
                )
            return None, 0, ()
        values = self.covariates.of_further(given, runs)
        unknown = self.covariates.unknown(values)
        entries = [
            LogEntry(
                "unknown_level",
                "warning",
                f"No family of the pool has {name}={values[name]}; its effect is drawn from the prior of levels.",
            )
            for name in unknown
        ]
        return self.covariates.row(values), len(unknown), tuple(entries)

    def fit(self, runs: Runs, *, name: str | None = None, covariates: Mapping[str, Value] | None = None) -> Fitted:
        """Return the posterior of another family, given all families of the pool.

        It is the posterior that the family would have had in the pool, except that the posteriors of the other families
        are not updated.

        Args:
            runs: Runs of the family; one run is enough.
            name: Name of the family; by default the name of the runs.
            covariates: Values of the covariates of the family, for a pool with covariates; by default those in columns
                of the runs. A level that no family of the pool has gets an effect from the prior of levels, and the log
                of the runs says so.

        Raises:
            InputError: For runs that cannot be pooled with the others, and covariates that are missing.

        Example:
            >>> joint.fit(few_runs).predict(flops=1e24)  # doctest: +SKIP
        """
        checked_runs(runs)
        runs = dataclasses.replace(runs, name=name or runs.name)
        row, unknown, entries = self.place(covariates, runs)
        runs = runs if self.covariates is None else recounted(runs, self.covariates.counted)
        runs = dataclasses.replace(runs, log=(*runs.log, *entries))
        first = next(iter(self.fits.values())).runs
        refuse_mixed({self.names[0]: dataclasses.replace(first, inputs=self.inputs), runs.name: runs})
        floors = [quantity.name for quantity in self.quantities if quantity.kind == "floor"]
        refuse_units({self.names[0]: first, runs.name: runs}, floors)
        jobs = self.plan.further(runs)
        parts = [
            fit_further(job, group.at(row, unknown), self.seed, self.settings, self.method, number)
            for number, (job, group) in enumerate(zip(jobs, self.groups, strict=True))
        ]
        return combine(parts, self.plan.weights)

    def to_datatree(self) -> Any:
        """Return an `xarray.DataTree`: the draws of the group, and below `families` the tree of each family."""
        from xarray import Dataset, DataTree

        tree: dict[str, Any] = {}
        names = [quantity.name for quantity in self.quantities]
        for group, label in zip(self.groups, self.labels, strict=True):
            place = "/group" if not label else f"/group/{label.replace(' ', '_')}"
            drawn = {"mean": group.draws.mean, "sd": group.draws.sd}
            data: dict[str, Any] = {name: (("chain", "draw", "quantity"), values) for name, values in drawn.items()}
            labels: dict[str, Any] = {"quantity": names}
            if self.covariates is not None and group.draws.effects is not None:
                effects = group.draws.effects @ self.covariates.effects().T
                data["effect"] = (("chain", "draw", "quantity", "level"), effects)
                labels["level"] = list(self.covariates.labels)
            if group.draws.correlation is not None:
                data["correlation"] = (("chain", "draw", "quantity", "other_quantity"), group.draws.correlation)
                labels["other_quantity"] = names
            tree[place] = Dataset(data, labels)
        for name, fit in self.fits.items():
            own = fit.to_datatree()
            own.attrs["family"] = name
            tree |= {f"/families/{name.replace('/', '|')}{node.path}": node.to_dataset() for node in own.subtree}
        return DataTree.from_dict(tree)

    def save(self, path: str | Path) -> Path:
        """Write the pool to a netCDF file that `bayescale.load_pool` reads, and return its path.

        Args:
            path: File to write, ending in .nc; one that exists is replaced.

        Raises:
            InputError: For a path that cannot be written, or one that does not end in .nc.

        Example:
            >>> joint.save("pool.nc")  # doctest: +SKIP
        """
        from bayescale.pooling.storage import save_pool

        return save_pool(self, path)

    def __repr__(self) -> str:
        """Return the pool in at most one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the pooled and shared quantities, and the families whose draws did not converge."""
        runs = sum(len(fit.runs) for fit in self.fits.values())
        lines = [f"{self.law.name} on {counted(len(self), 'family', 'families')}, {counted(runs, 'run')}"]
        for group, label in zip(self.groups, self.labels, strict=True):
            lines += [f"{label}:"] if label else []
            lines += described(group, self.covariates)
        for own, common in ({} if self.covariates is None else self.covariates.counted).items():
            lines.append(f"{common} stands for {own} in some families, as a covariate tells; exponents are pooled.")
        if not all(group.converged for group in self.groups):
            lines.append("The chains of the group disagree (R-hat too high); use settings=Nuts(draws=2000).")
        if self.doubtful:
            names = ", ".join(self.doubtful[:5])
            lines.append(
                f"Effective sample sizes are too small for {names}; use settings=bs.Nuts(draws=2000) (--draws 2000)."
            )
        return "\n".join(lines)
