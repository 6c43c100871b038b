"""Checks: reasons to distrust a fit or a forecast that diagnostics of the sampler do not show."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayescale.data.runs import DISTINCT
from bayescale.data.trends import has_trough, shape_warnings
from bayescale.digits import factor_shown, inputs_text
from bayescale.errors import InputError, Status, counted, some
from bayescale.forecast import RECORD_RATIO, TESTED, Forecast
from bayescale.laws.priors import Plateaus, Shares
from bayescale.posterior.curves import RISE, one_curve, rise, rises, scatter_of, steepens, turns
from bayescale.posterior.fitted import Fitted, component_labels
from bayescale.posterior.loo import elpd
from bayescale.posterior.notes import Note
from bayescale.posterior.posterior import Posterior
from bayescale.posterior.predictive import run_variance
from bayescale.posterior.response_checks import RISES_THROUGHOUT, check_score, check_value
from bayescale.posterior.track_record import INSIDE, VALUES, entry
from bayescale.score_forecast import ValueForecast

REVERSED = ("score", "direction")
"""Codes of warnings from reading about responses that become worse with scale."""
GRAVE = ("hump", *REVERSED, "repeated_or_leaking")
"""Codes of warnings from reading and screening that forbid a decision; `REVERSED` only where the law decreases."""
LITTLE = "the runs say little about this point"
UNFIT = ("not_monotone", "flat", "repeated")
"""Warnings about data that the law does not describe."""
UNLEARNED = 0.1
"""A coordinate counts as not learned if its posterior variance exceeds (1 - this value) times its prior variance."""
OWN_NAME = re.compile("^(log_fall_ratio|log_step|logit_share|log|logit|place|standard)_")
"""What names of unconstrained parameters have before the name of the constant that they determine."""
WIDE_DISCREPANCY = 1.0
"""Amplitude of the discrepancy, in log units per span, from which the law is said to describe losses badly."""
COLLINEAR = 0.98
STILL = 1e-9
"""Range of ln(loss) below which losses count as equal."""
REFUTED = 8.0
"""A component of a mixture is reported if its leave-one-out log density is lower than another's by this many nats."""
ONE_MODEL = {"with a floor": "saturating_power", "without floor and plateau": "power"}
"""Laws that correspond to one component of the default mixture, by its label."""
SCATTERS = 2.0
"""A floor is reported if it exceeds the lowest measured value by this many standard deviations of one run."""
ABOVE_NOISE = 1.0
"""A curve rises again if it exceeds what noise alone would cause by this many standard deviations of the noise."""
WIDE_SCORE = 0.4
"""Width of the 95 % interval of a score above which it is called too wide for a decision."""
WIDE_VALUE = 1.25
"""Width of the 95 % interval of a value, in ranges of the fitted values, above which it is called too wide."""
WORTH_NEW = 4.0
"""Number of epochs up to which repeated tokens are worth nearly as much as new ones (muennighoff2023scaling)."""


def notes_on(posterior: Fitted, forecast: Forecast | None, prior: bool) -> list[Note]:
    """List the notes that `Posterior.check` returns.

    Args:
        posterior: A fit.
        forecast: A forecast whose extrapolation factor and width are judged as well.
        prior: Also list coordinates that the data did not change, and components of a mixture that fit much worse than
            another. Both take longer.
    """
    shape = check_shape(posterior)
    # Reading the table and the shape of its curve may give the same warning, which is kept once.
    told = {"hump", *REVERSED} if any(note.code == "not_monotone" for note in shape) else set[str]()
    table = check_table(posterior)
    told |= {"hump"} if any(note.code == "hump" for note in table) and turns(posterior) else set()
    table = [note for note in table if note.code not in told]
    notes = [*check_sampler(posterior), *table, *check_design(posterior), *shape]
    notes += [*check_components(posterior), *check_learning(posterior)] if prior else []
    notes += [*check_floor(posterior), *check_discrepancy(posterior)]
    points = None if forecast is None else forecast.points
    notes += check_repetition(posterior, points)
    if forecast is None:
        return notes
    # Coverage on published families reassures nobody about a curve that no law describes.
    doubted = any(note.severity == "warning" and note.code in (*GRAVE, *UNFIT) for note in notes)
    return [*notes, *check_forecast(forecast), *([] if doubted else check_record(posterior, forecast))]


def grave_notes(posterior: Fitted, points: pd.DataFrame | None = None) -> list[Note]:
    """List the warnings that forbid a decision on this fit even if the chains converged, the most serious first.

    Args:
        posterior: A fit.
        points: Inputs of a question, for which repetition of data is judged as well.
    """
    table = [note for note in check_table(posterior) if note.code in GRAVE]
    if rises(posterior):
        table = [note for note in table if note.code not in REVERSED]
    notes = [*check_shape(posterior), *check_repetition(posterior, points), *table]
    return [note for note in notes if note.severity == "warning"]


def reasons_for_distrust(posterior: Fitted) -> list[str]:
    """Return the reasons not to rely on a fit for any question; empty if there are none."""
    status = [] if posterior.status is Status.OK else [str(posterior.status)]
    return status + [note.text for note in grave_notes(posterior)]


def check_sampler(fit: Fitted) -> list[Note]:
    """Return notes on chains that did not converge, and on a posterior with several modes."""
    notes = []
    modes = max(part.diagnostics.modes for part in fit.components)
    if modes > 1:
        text = (
            f"The posterior has {modes} modes that matter: the data fit more than one shape of the curve, "
            "and forecasts may fall between them."
        )
        notes.append(Note("several_modes", "info", text))
    for part, label in zip(fit.components, component_labels(fit), strict=True):
        which = f" (the component {label})" if len(fit.components) > 1 else ""
        notes += check_convergence(part, which)
    return notes


def check_table(posterior: Fitted) -> list[Note]:
    """Return warnings from reading and screening, and a note on the earlier fit that the prior comes from."""
    entries = [entry for entry in posterior.runs.log if entry.severity == "warning" or entry.code == "prior_from"]
    return [Note(entry.code, entry.severity, entry.text) for entry in entries]


def check_convergence(posterior: Posterior, which: str) -> list[Note]:
    """Return a note if the draws of one model did not converge; `which` names the model in the text."""
    if posterior.status is Status.OK:
        return []
    measures = posterior.diagnostics
    if measures.method == "importance":
        return [Note("unconverged", "warning", f"{posterior.status}{which} {measures.weights_text}")]
    detail = (
        f"(R-hat {measures.largest_rhat:.3f}, smallest effective sample size "
        f"{min(np.min(measures.ess_bulk), np.min(measures.ess_tail)):.0f}, "
        f"{counted(measures.divergences, 'divergence')})"
    )
    return [Note("unconverged", "warning", f"{posterior.status}{which} {detail}")]


def check_design(posterior: Fitted) -> list[Note]:
    """Return notes on designs that cannot answer a question even if the chains converged."""
    notes = []
    frame, inputs = posterior.runs.frame, posterior.law.inputs
    for name in inputs:
        scales = frame[name].nunique()
        factor = frame[name].max() / frame[name].min()
        if factor < 1.5:
            text = f"{name} varies by a factor {factor:.2f} only, so its exponent comes from the prior."
            notes.append(Note("inert_input", "warning", text))
        elif scales < 3:
            text = f"{name} takes {counted(scales, 'value')}; fewer than three scales cannot show a floor or a bend."
            notes.append(Note("few_scales", "warning", text))
    if posterior.ray is not None:
        notes.append(note_ray(posterior))
    moving = [name for name in inputs if frame[name].max() / frame[name].min() >= 1.5]
    if len(moving) > 1 and len(frame) > 2:
        correlation = np.corrcoef(np.log(frame[moving].to_numpy(float)).T)
        worst = np.abs(correlation - np.eye(len(moving))).max()
        if worst > COLLINEAR:
            text = (
                f"{' and '.join(moving)} move together (correlation {worst:.3f}), so their exponents cannot be told "
                "apart; forecasts along the same ray are fine, others rest on the prior."
            )
            notes.append(Note("collinear", "warning", text))
    if posterior.first.job.problem.single > 0:
        rows = int(posterior.first.job.problem.mask.sum())
        text = (
            f"{len(frame)} checkpoints were averaged to {counted(rows, 'row')}, because neighbours are no independent "
            "evidence. Scatter is that of averages; forecasts are of single rows."
        )
        if "run" not in frame:
            text += " If the rows are independent runs, name a run for each (a column run)."
        notes.append(Note("averaged", "info", text))
    if len(frame) <= 5:
        text = f"{counted(len(frame), 'point')}: with so few, the intervals are mostly those of the priors."
        notes.append(Note("short", "info", text))
    return notes


def note_ray(posterior: Fitted) -> Note:
    """Return the note about the ray on which all runs lie, and the runs that a question off it would need."""
    ray = posterior.ray
    assert ray is not None, "a fit along a ray"
    away = dict.fromkeys(ray.names[1:], 2.0)
    point = {name: value * away.get(name, 1.0) for name, value in ray.inputs(1.0).iloc[0].items()}
    _, remedy = ray.remedy(point, posterior.ray_start)
    text = (
        f"All runs lie on one ray ({ray.text}), so the {posterior.response} is fitted along it, by {ray.names[0]}. "
        f"Forecasts are along the ray; off it the data say nothing. {remedy} Name a law (law='chinchilla_outer', "
        "bayescale fit --law chinchilla_outer) to fit all inputs, with exponents from the prior."
    )
    return Note("one_ray", "info", text)


def in_short(note: Note, posterior: Fitted) -> Note:
    """Return a shorter version of a note that was printed before, in one line."""
    if note.code != "one_ray" or posterior.ray is None:
        return note
    text = f"Fitted along one ray ({posterior.ray.text}); off it the data say nothing."
    return dataclasses.replace(note, text=text)


def check_shape(posterior: Fitted) -> list[Note]:
    """Return notes on a curve of one input that is flat, rises again (neither fits a decreasing law), or steepens."""
    if len(posterior.law.inputs) > 1:
        return []
    if posterior.runs.score is not None:
        return check_score(posterior)
    if posterior.runs.value is not None:
        return check_value(posterior)
    x, y = one_curve(posterior.runs, posterior.law.inputs[0])
    if len(y) > 1 and np.ptp(y) < STILL:
        text = (
            f"All {len(y)} losses are equal ({np.exp(y[0]):.4g}): nothing was learned yet, or the metric is too coarse "
            "to show it. When such a curve begins to fall, and how fast, is not in these data: do not decide on this "
            "forecast."
        )
        return [Note("flat", "warning", text)]
    if len(y) < 4 or rises(posterior):
        return []
    notes = []
    above = rise(y)
    noise, reach = scatter_of(y)
    hump = humps(posterior)
    if (hump or above > RISE * np.ptp(y)) and turns(posterior):
        return []
    if hump:
        notes.append(hump[0])
    elif has_trough(y) or (above > RISE * np.ptp(y) and above > (reach + ABOVE_NOISE) * noise):
        times = "" if has_trough(y) else f", {above / noise:.0f} times the scatter of its neighbours"
        text = (
            f"The loss rises again by {above / np.ptp(y):.0%} of its range{times} (double descent, over-fitting of "
            "repeated data, a spike). A falling law does not describe this, and no interval here foresees the next "
            "turn: do not decide on this forecast."
        )
        if rising := np.corrcoef(x, y)[0, 1] > RISES_THROUGHOUT:
            text = (
                f"The response rises with {posterior.law.inputs[0]}, and {posterior.law.name} falls: do not decide on "
                "this forecast. Read an accuracy as a score, score= (--score), or take what is left to gain, "
                "derive='error_rate' (bayescale fit --derive error_rate), or name a law that grows, such as "
                "growing_power."
            )
        notes.append(Note("not_monotone", "warning", text, "rising" if rising else "trough"))
    if not notes and steepens(x, y):
        text = "The curve still steepens; on published curves of this kind the truth came out better than forecast."
        notes.append(Note("steepening", "info", text))
    return notes


def humps(posterior: Fitted) -> list[Note]:
    """Return the warning about losses of one input that increase and then decrease; empty if there is none."""
    entries = shape_warnings(posterior.runs.frame, posterior.law.inputs)
    return [Note("not_monotone", "warning", entry.text, "hump") for entry in entries if entry.code == "hump"]


def check_discrepancy(posterior: Fitted) -> list[Note]:
    """Return a note on losses that depart from the law by more than their own size."""
    if posterior.discrepancy is None or posterior.runs.response_scale is not None:
        return []
    amplitude = float(np.median(posterior.draws["discrepancy"]))
    if amplitude < WIDE_DISCREPANCY:
        return []
    text = (
        f"The runs depart from {posterior.law_names} by a factor of about {factor_shown(float(np.exp(amplitude)))} "
        "over their range, so the law describes them badly."
    )
    if "run" in posterior.runs.frame and posterior.runs.frame["run"].duplicated().any():
        text += (
            " If the first checkpoints are from the warm-up of the learning rate, read the runs with burn_in=0.1 "
            "(bayescale fit --burn-in 0.1)."
        )
    return [Note("wide_discrepancy", "warning", text)]


def turn_ahead(posterior: Fitted) -> tuple[list[Note], str]:
    """Return why there is no forecast beyond the data, if there are reasons, and the name of a law that turns."""
    found = [note for note in check_table(posterior) if note.code == "repeated_or_leaking"]
    law = ""
    if not found:
        # Losses that rise again at the end, or between noisy values, are warned of only.
        found = [n for n in check_shape(posterior) if n.code == "not_monotone" and n.shape != "trough"]
        law = "inverted_u_score" if posterior.runs.score is not None else "rise_then_fall"
        law = "turning" if found and found[0].shape == "rising" else law
        # No law was found to describe values that become worse again.
        law = law if posterior.runs.value is None else ""
    return found, law


def refuse_beyond_turn(posterior: Fitted, forecast: Forecast) -> None:
    """Refuse points beyond data that increase, unless the law does, and beyond data that are repeated or leak.

    Raises:
        InputError: With the laws that turn, and the option that makes the forecast all the same.
    """
    beyond = forecast.ratio > INSIDE
    if not beyond.any():
        return
    found, law = turn_ahead(posterior)
    if not found:
        return
    point = inputs_text(forecast.points[beyond].iloc[0].to_dict())
    other = f", fit a law that turns, law={law!r} (bayescale fit --law {law})" if law else ""
    raise InputError(
        f"{found[0].text} The point {point} lies beyond the data, so no forecast is made there. Forecast inside the "
        f"data{other}, or pass force=True (bayescale predict --force) for the forecast of {posterior.law_names} all "
        "the same."
    )


def check_repetition(posterior: Fitted, points: pd.DataFrame | None) -> list[Note]:
    """Return notes on data that are repeated more often than is harmless, under a law that ignores repetition.

    Args:
        posterior: The fit; its runs have the number of distinct tokens in `unique_tokens`, or of distinct samples in
            `unique_samples`.
        points: Inputs of a forecast, judged as well, with the largest number of distinct tokens or samples of the runs.
    """
    notes, frame, inputs = [], posterior.runs.frame, posterior.law.inputs
    for distinct, total in DISTINCT.items():
        if distinct not in frame or distinct in inputs or total not in frame:
            continue
        epochs = float((frame[total] / frame[distinct]).max())
        if points is not None and total in points:
            epochs = max(epochs, float(points[total].max() / frame[distinct].max()))
        if epochs > WORTH_NEW:
            text = (
                f"{total} repeats its {distinct} up to {epochs:.3g} times. Beyond {WORTH_NEW:g} times repeated data "
                "are worth less than new ones, and with many more the loss rises again (muennighoff2023scaling); "
                f"{posterior.law.name} knows nothing of this: do not decide on this forecast. A law with {distinct} "
                "among its inputs does."
            )
            notes.append(Note("repeated", "warning", text))
    return notes


def check_learning(posterior: Fitted) -> list[Note]:
    """Return notes on coordinates that the data did not change."""
    notes = []
    contraction = posterior.contraction()
    # Without replicates the seed noise keeps its prior, which comes from published replicates, on purpose.
    watched = [name for name in contraction.index if name != "log_seed_sd" and "[" not in name]
    held = [name for name in watched if contraction[name] < UNLEARNED]
    if held:
        text = f"The data say next to nothing about {some(held_names(held))}; their values are the prior's."
        notes.append(Note("prior_dominated", "info", text))
    return notes


def held_names(parameters: Sequence[str]) -> list[str]:
    """Return how results call what some unconstrained parameters determine, without repetition.

    Example:
        >>> held_names(["log_discrepancy", "place_T", "log_fall"])
        ['discrepancy', 'T', 'the decrease of the law over the runs']
    """
    shown = {"log_fall": "the decrease of the law over the runs", "bend": "the place of the plateau"}
    named = (shown.get(name) or OWN_NAME.sub("", name) for name in parameters)
    return list(dict.fromkeys(named))


def check_components(fit: Fitted) -> list[Note]:
    """Return notes on components of a mixture that fit the runs much worse than another, and how to leave them out.

    Components are compared by their leave-one-out log density, which accounts for the flexibility of each.
    """
    # Log odds with coordinates of their own adapt to each score, so leaving a score out shows too little.
    # Stacked weights already depend on how well the components fit.
    if len(fit.components) == 1 or fit.runs.score is not None or fit.stacking is not None:
        return []
    fits = np.array([elpd(part) for part in fit.components])
    best, labels = int(np.argmax(fits)), component_labels(fit)
    worse = [number for number, elpd in enumerate(fits) if fits[best] - elpd > REFUTED]
    if not worse:
        return []
    kept = [number for number in range(len(fits)) if number not in worse]
    models = " and the model ".join(labels[number] for number in worse)
    gaps = " and ".join(f"{fits[best] - fits[number]:.0f}" for number in worse)
    shares = " and ".join(f"{fit.weights[number]:.3g}" for number in worse)
    which = f"[:{len(kept)}]" if kept == list(range(len(kept))) else ""
    remedy = f"post.components[{kept[0]}] forecasts without"
    if len(kept) > 1:
        parts = [f"post.{name}{which}" for name in ("components", "weights")]
        if not which:
            parts = [f"[{part}[i] for i in {kept}]" for part in parts]
        remedy = f"bs.Mixture({', '.join(parts)}) forecasts without"
    named = next((ONE_MODEL[labels[number]] for number in kept if labels[number] in ONE_MODEL), None)
    if named:
        remedy += f", and law={named!r} (bayescale fit --law {named}) fits one model alone"
    several = len(worse) > 1
    text = (
        f"The model {models} {'describe' if several else 'describes'} these runs worse than the model {labels[best]}, "
        f"by {gaps} nats of leave-one-out log density. The weights do not depend on the runs, so every forecast still "
        f"contains {'them' if several else 'it'} with weight {shares}; {remedy}."
    )
    return [Note("worse_component", "info", text)]


def check_floor(fit: Fitted) -> list[Note]:
    """Return a note on a floor so far above measured values that it is no limit of the response."""
    lowest, found = float(fit.runs.frame["loss"].min()), []
    for part, label in zip(fit.components, component_labels(fit), strict=True):
        if (name := floor_name(part)) is None or not np.any(part.draws[name]):
            continue
        one = float(np.sqrt(np.median(run_variance(part.flat_values, part.job.problem))))
        middle = float(np.median(part.draws[name]))
        if middle > lowest * np.exp(SCATTERS * one):
            found.append((name, middle, f" ({label})" if len(fit.components) > 1 else ""))
    # A floor of the odds is a ceiling of the score, which the table of constants does not show as such.
    if not found or fit.runs.response_scale is not None:
        return []
    told = " and ".join(f"{name} {middle:.3g}{which}" for name, middle, which in found)
    carrier = "noise puts runs" if fit.discrepancy is None else "the discrepancy carries the curve"
    text = (
        f"{told}, the floor, lies above measured values (the lowest is {lowest:.3g}): {carrier} below it. Do not read "
        f"{found[0][0]} as the limit of the {fit.response}."
    )
    return [Note("floor_above_data", "info", text)]


def floor_name(part: Posterior) -> str | None:
    """Return the name of the constant that is the law's floor, if its prior declares one, or None."""
    if part.law.level is None:
        return None
    key, prior = part.law.level
    declared = prior.floor if isinstance(prior, Shares) else isinstance(prior, Plateaus)
    return part.law.covered[key][0] if declared else None


def check_record(posterior: Fitted, forecast: Forecast) -> list[Note]:
    """Return a note on how often intervals contained the losses of published families at this extrapolation factor."""
    beyond = np.where(forecast.below, 1.0, forecast.ratio)
    # The table of past forecasts covers points beyond the data; points below are mentioned where there are no others.
    if posterior.runs.value is not None and beyond.max() > INSIDE:
        return [Note("record", "warning", VALUES)]
    if posterior.runs.response_scale is not None:
        # The table of past forecasts is about losses.
        return []
    worst = int(np.argmax(beyond if beyond.max() > INSIDE else forecast.ratio))
    if forecast.ratio[worst] <= INSIDE:
        return []
    known = entry(posterior, forecast.points.iloc[worst].astype(float).to_dict())
    return [Note("record", "info", known.text)]


def check_forecast(forecast: Forecast) -> list[Note]:
    """Return notes on forecasts that extrapolate far or are too wide."""
    notes = []
    beyond = np.where(forecast.below, 1.0, forecast.ratio)
    if beyond.max() > RECORD_RATIO:
        text = f"The forecast reaches {factor_shown(beyond.max(), 3)} times beyond the data; {TESTED}."
        notes.append(Note("far", "warning", text))
    low, high = forecast.interval(0.95)
    if isinstance(forecast, ValueForecast):
        times = float((high - low).max()) / forecast.values.unit
        if times > WIDE_VALUE:
            text = f"The 95 % interval spans {times:.2f} times the range of the fitted values: {LITTLE}."
            notes.append(Note("weak", "warning", text))
        return notes
    if forecast.higher_is_better:
        if (high - low).max() > WIDE_SCORE:
            text = f"The 95 % interval spans {(high - low).max():.2f} of the score: {LITTLE}."
            notes.append(Note("weak", "warning", text))
        return notes
    width = float(np.max(np.log(high / low)))
    if width > 0.5:
        text = f"The 95 % interval spans a factor {np.exp(width):.2f}: {LITTLE}."
        notes.append(Note("weak", "warning", text))
    return notes
