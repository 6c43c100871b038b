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
from bayescale.data.runs import Runs
from bayescale.data.runs import checked as checked_runs
from bayescale.errors import InputError, counted, nearest
from bayescale.fitting.options import FitOptions, list_fit_options, request_fit
from bayescale.inference.nuts import Nuts
from bayescale.laws.law import Law
from bayescale.laws.priors import Prior
from bayescale.pooling.families import Plan, named_families, plan_families, refuse_mixed, refuse_units
from bayescale.pooling.group_fit import Group, fit_further, fit_group
from bayescale.pooling.quantities import Quantity, find_quantities
from bayescale.posterior.fitted import Fitted, component_labels
from bayescale.posterior.mixture import combine


@list_fit_options(method="auto")
def pool(
    families: Mapping[str, Runs] | Sequence[Runs] | Runs,
    law: str | Law = "auto",
    *,
    pooled: Sequence[str] | None = None,
    shared: Sequence[str] = (),
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

    Args:
        families: Runs by the family's name, a list of runs, or runs of several families.
        law: See `fit`; one law for all families.
        pooled: Names of the pooled quantities; by default the exponents of the law.
        shared: Names of the shared quantities.
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
    named = named_families(families)
    refuse_mixed(named)
    pooled = None if pooled is None else names_in("pooled", pooled)
    plan = plan_families(named, law, pooled, names_in("shared", shared), request.model)
    parts = group_quantities(plan)
    refuse_units(named, [quantity.name for quantity in parts[0] if quantity.kind == "floor"])
    found = [
        fit_group([jobs[number] for jobs in plan.jobs], own, seed, request.settings, request.method, number)
        for number, own in enumerate(parts)
    ]
    fits = {
        name: combine([posteriors[i] for posteriors, _ in found], plan.weights) for i, name in enumerate(plan.names)
    }
    return Pool(fits, tuple(group for _, group in found), plan, seed, request.settings, request.method)


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
    """

    fits: dict[str, Fitted]
    groups: tuple[Group, ...]
    plan: Plan
    seed: int
    settings: Nuts
    method: str

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
        family. `learned` is 1 - posterior variance / prior variance of the mean over families.

        Args:
            level: Central probability of the intervals.
        """
        checked.options(level=(level, checked.PROBABILITY))
        rows = []
        for group, label in zip(self.groups, self.labels, strict=True):
            for number, quantity in enumerate(group.quantities):
                rows.append(group_row(group, number, quantity, level) | ({"component": label} if label else {}))
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
            for quantity in self.quantities:
                low, middle, high = np.quantile(fit.draws[quantity.name], ends)
                row |= {quantity.name: middle, f"{quantity.name}_low": low, f"{quantity.name}_high": high}
            rows.append(row)
        return pd.DataFrame(rows).set_index("family")

    def prior(self) -> dict[str, Prior]:
        """Return priors of the pooled and shared constants for a new family, for `fit(runs, law, priors=...)`.

        They are normal distributions (of logarithms or logits) that approximate the distribution of a new family.
        Floors are left out, because their prior is relative to the runs, and so are standard deviations, which are no
        constants of the law. The method `Pool.fit` uses everything that the pool has learned.

        Raises:
            InputError: For a mixture of laws, whose exponents differ, and a pool without such constants.

        Example:
            >>> bs.fit(few_runs, joint.law.name, priors=joint.prior(), seed=0)  # doctest: +SKIP
        """
        if len(self.groups) > 1:
            raise InputError(
                f"{self.law.name} is a mixture of models whose exponents differ, so one prior does not fit all; use "
                "joint.fit(runs), or pool one law, e.g. law='saturating_power'."
            )
        group, found = self.groups[0], {}
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

    def fit(self, runs: Runs, *, name: str | None = None) -> Fitted:
        """Return the posterior of another family, given all families of the pool.

        It is the posterior that the family would have had in the pool, except that the posteriors of the other families
        are not updated.

        Args:
            runs: Runs of the family; one run is enough.
            name: Name of the family; by default the name of the runs.

        Raises:
            InputError: For runs that cannot be pooled with the others.

        Example:
            >>> joint.fit(few_runs).predict(flops=1e24)  # doctest: +SKIP
        """
        checked_runs(runs)
        runs = dataclasses.replace(runs, name=name or runs.name)
        first = next(iter(self.fits.values())).runs
        refuse_mixed({self.names[0]: dataclasses.replace(first, inputs=self.inputs), runs.name: runs})
        floors = [quantity.name for quantity in self.quantities if quantity.kind == "floor"]
        refuse_units({self.names[0]: first, runs.name: runs}, floors)
        jobs = self.plan.further(runs)
        parts = [
            fit_further(job, group, self.seed, self.settings, self.method, number)
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
            data = {name: (("chain", "draw", "quantity"), values) for name, values in drawn.items()}
            tree[place] = Dataset(data, {"quantity": names})
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
            lines += [described(group, number, quantity) for number, quantity in enumerate(group.quantities)]
        if not all(group.converged for group in self.groups):
            lines.append("The chains of the group disagree (R-hat too high); use settings=Nuts(draws=2000).")
        if self.doubtful:
            lines.append(f"Too few draws count of {', '.join(self.doubtful[:5])}; use settings=Nuts(draws=2000).")
        return "\n".join(lines)


def group_row(group: Group, number: int, quantity: Quantity, level: float) -> dict[str, Any]:
    """Return the row of a quantity in the table of `Pool.summary`."""
    ends = [0.5 - level / 2, 0.5, 0.5 + level / 2]
    mean, sd = group.flat.mean[:, number], group.flat.sd[:, number]
    low, middle, high = (float(value) for value in quantity.constrain(np.quantile(mean, ends)))
    row: dict[str, Any] = {"quantity": quantity.name, "is": "shared" if quantity.shared else "pooled"}
    row |= {"median": middle, "low": low, "high": high}
    if not quantity.shared:
        row |= dict(zip(("sd_low", "sd", "sd_high"), map(float, np.quantile(sd, ends)), strict=True))
    new = mean + sd * np.random.default_rng(0).standard_normal(len(mean))
    outer = quantity.constrain(np.quantile(new, [ends[0], ends[2]]))
    row |= {"new_low": float(outer[0]), "new_high": float(outer[1])}
    learned = 1.0 - float(mean.var()) / group.priors[number].sd ** 2
    rhat, ess = float(np.nanmax(group.rhat[number])), float(np.nanmin(group.ess[number]))
    return row | {"learned": learned, "r_hat": rhat, "ess_bulk": ess}


def described(group: Group, number: int, quantity: Quantity) -> str:
    """Return a line that describes a quantity."""
    row = group_row(group, number, quantity, 0.9)
    text = f"  {quantity.name:<12} {row['is']}: {row['median']:.4g} (90 % {row['low']:.4g} to {row['high']:.4g})"
    if quantity.shared:
        return text
    unit = {"log": " of its logarithm", "logit": " of its logit", "floor": " of its logarithm"}.get(quantity.kind, "")
    return (
        f"{text}; between families sd {row['sd']:.2g}{unit}, so a new one has {row['new_low']:.3g} to "
        f"{row['new_high']:.3g}"
    )
