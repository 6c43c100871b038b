"""Report: one page that people sign, from a posterior or a decision, followed by an appendix."""

from __future__ import annotations

import datetime
import importlib.metadata
import io
import platform
import re

import numpy as np
import pandas as pd
from matplotlib import pyplot, rc_context
from matplotlib.axes import Axes

from bayescale import __version__, checked, plot
from bayescale.checked import known_keywords
from bayescale.data.wording import in_words, quantities, ray_words
from bayescale.decide.go import ANSWERS, Decision
from bayescale.decide.sensitivity import sensitivity
from bayescale.decide.utility import money
from bayescale.digits import shown
from bayescale.laws.prior_words import prior_words
from bayescale.laws.registry import LAWS
from bayescale.plot.style import STYLE as PICTURES
from bayescale.plot.style import figure_of, new_axes
from bayescale.posterior import track_record
from bayescale.posterior.fitted import SPREADS, Fitted, component_labels, own_draws
from bayescale.posterior.posterior import fitted
from bayescale.reporting.page import Part, Report, chance_words

MOST_ROWS = 60
"""Largest number of runs in the table of data; of further runs only the number is given."""
MOST_CHANGES = 5
"""Largest number of changed assumptions on the first page."""
PICTURE_HEIGHT = 3.7
"""Height in inches of the first page's plot; its width is 7.5."""
PACKAGES = ("jax", "numpyro", "arviz", "numpy")
SAMPLERS = {
    "nuts": "NUTS (Hamiltonian Monte Carlo)",
    "importance": "importance sampling from a Gaussian mixture, resampled by Pareto-smoothed weights",
}
"""Description of each sampler, by `Diagnostics.method`."""


@known_keywords
def report(
    posterior: Fitted,
    decision: Decision | None = None,
    *,
    title: str | None = None,
    command: str = "",
    with_sensitivity: bool = True,
    progress: bool | None = None,
) -> Report:
    """Build the page of a posterior or of a decision.

    Args:
        posterior: The fit.
        decision: Result of `decide.go` for this fit; without it the page describes the fit.
        title: The question; by default made from the decision.
        command: Command that made the page, printed as its provenance.
        with_sensitivity: Include answers under changed assumptions, which need further fits. These take seconds, more
            at first, when models are compiled.
        progress: Show a progress bar; by default only on a terminal.

    Example:
        >>> bs.report(post, bs.decide.go(post, 2.6, flops=1e21)).save("decision.html")  # doctest: +SKIP
    """
    fitted(posterior)
    if decision is not None:
        checked.instance("A decision", decision, Decision, hint="Make one with bs.decide.go(posterior, target, ...).")
    checked.options(title=(title, checked.optional(checked.TEXT)), command=(command, checked.TEXT))
    changes = changed(posterior, decision, progress) if decision is not None and with_sensitivity else None
    first, appendix = [], []
    if decision is None:
        headline = words(f"{posterior.law_names} on {posterior.runs}")
        made = title or f"Scaling law of {words(posterior.runs.name)}"
        first.append(
            Part("The fit", pictures=[picture(page_intervals(posterior, None), "Runs and predictive intervals")])
        )
        first.append(Part("What to know", notes=[*counted(posterior), words(str(posterior.status))]))
    else:
        headline = answer_of(decision)
        made = title or (
            f"Should we make the run with {run_words(decision.at)}, to end {decision.side} a {response(posterior)} of "
            f"{decision.target:g}?"
        )
        # The second part is the longest, so what would change the answer is placed below the first part, beside it.
        first += [stakes(decision), chances(posterior, decision), what_would_change(posterior, decision, changes)]
        first.append(question_picture(posterior, decision))
        appendix.append(forecasts(posterior, decision))
    appendix.append(assumptions(posterior, decision))
    if len(posterior.law.inputs) > 1:
        caption = f"Measured {response(posterior)} against fitted"
        appendix.append(Part("How the law fits", pictures=[picture(plot.fitted(posterior), caption)]))
    appendix += [changes] if changes is not None else []
    if decision is not None:
        appendix.append(pilots(decision))
    appendix += [constants(posterior), data(posterior), *left_out(posterior), provenance(posterior, command)]
    return Report(
        title=made,
        answer="" if decision is None else decision.answer,
        headline=headline,
        probability=None if decision is None else (decision.probability, decision.break_even),
        parts=first,
        appendix=appendix,
        signatures=decision is not None,
        subject=posterior if decision is None else decision,
    )


def words(text: str) -> str:
    """Rewrite code in a sentence in words, except names of laws, which are written as in plots and `bayescale laws`."""
    names = "|".join(sorted((name for name in LAWS if "_" in name), key=len, reverse=True))
    return "".join(part if part in LAWS else in_words(part) for part in re.split(rf"(?<!\w)({names})(?!\w)", text))


# --- The first page -------------------------------------------------------------------------------------------


def answer_of(decision: Decision) -> str:
    """Return the answer in one sentence without code."""
    run = f"the run with {run_words(decision.at)}"
    if decision.answer == "cannot say":
        met = f"ends {decision.side} {decision.target:g}"
        return f"These runs cannot say whether {run} {met}. {words(decision.caveats[0].text)}"
    if decision.answer == "pilot first":
        assert decision.pilots is not None, "a pilot that pays"
        return f"Make a smaller run before {run}, and decide again. {words(decision.pilots.text)}"
    side = "Make" if decision.answer == "go" else "Do not make"
    reason = f"it ends {decision.side} {decision.target:g} with probability {chance_words(decision.probability)}"
    if decision.break_even is not None:
        above = "above" if decision.probability > decision.break_even else "below"
        reason += f", {above} the {decision.break_even:.2f} from which it pays"
    return f"{side} {run}: {reason}."


def stakes(decision: Decision) -> Part:
    """Return the part about the cost of the run and of wrong decisions."""
    if not decision.stakes:
        words = "No cost and value were given, so a run in vain and a chance missed count alike."
        return Part("What is at stake", [words], half=True)
    rows = [("cost of the run", money(decision.cost, decision.unit))]
    if decision.value is not None:
        rows.append((worth_of(decision), money(decision.value, decision.unit)))
    for label, name in {"expected regret of making it": "go", "expected regret of not making it": "no-go"}.items():
        rows.append((label, money(decision.regret[name], decision.unit)))
    rows.append(("worth of knowing the outcome beforehand", money(decision.evpi, decision.unit)))
    notes = []
    if decision.break_even is not None and decision.break_even >= 1.0:
        notes.append("Making it never pays: it costs at least what a success is worth.")
    return Part("What is at stake", table=pd.DataFrame(rows, columns=["", "amount"]), notes=notes, half=True)


def worth_of(decision: Decision) -> str:
    """Return a phrase that says what the value is paid for."""
    return "worth of each nat below the target" if decision.utility.name == "per_nat" else "worth of meeting the target"


def chances(posterior: Fitted, decision: Decision) -> Part:
    """Return the part about the probability of meeting the target, and about coverage of intervals on held-out runs."""
    low, high = (float(end) for end in decision.forecast.interval(0.8)[:, 0])
    fine = high - low
    middle = shown(float(decision.forecast.quantile(0.5)[0]), fine)
    said = f"Median {middle}, 80 % interval {shown(low, fine)} to {shown(high, fine)}"
    error = decision.probability_error
    said += f", Monte-Carlo error of the probability {'below 0.001' if error < 0.0005 else f'{error:.3f}'}."
    if decision.caveats:
        said = f"By the model alone, which is not to be relied on here: {said[0].lower()}{said[1:]}"
    known = track_record.entry(posterior, decision.at)
    table = known.table
    distance = "beyond the data" if len(posterior.law.inputs) == 1 else "the compute"
    rows = pd.DataFrame(
        {
            distance: [f"{factor:g} times" for factor in table["factor"]],
            "families": table["families"].astype(int),
            "80 % coverage": [f"{100 * share:.0f} %" for share in table["held80"]],
            "95 % coverage": [f"{100 * share:.0f} %" for share in table["held95"]],
        }
    )
    parts = Part("How likely, and the track record", [said, known.text], rows, marked=known.nearest_row)
    return Part(**{**vars(parts), "half": True, "gauge": (decision.probability, decision.break_even)})


def question_picture(posterior: Fitted, decision: Decision) -> Part:
    """Return the part with a plot of the fit, its intervals, the run in question and the target."""
    caption = "Measured runs, intervals of the fit, the target, and the run in question with its 80 % interval"
    ray = posterior.ray
    if ray is not None:
        caption += f". All runs lie on one ray: {ray_words(ray)}"
    return Part("Where this run would lie", pictures=[picture(page_intervals(posterior, decision), f"{caption}.")])


def page_intervals(posterior: Fitted, decision: Decision | None) -> Axes:
    """Draw intervals, or the valleys of a sweep, in the size of the first page's plot."""
    with rc_context(PICTURES):
        ax = new_axes(1, height=PICTURE_HEIGHT)[0]
    if decision is None:
        return plot.intervals(posterior, ax=ax)
    options = {"target": decision.target, "question": decision.forecast}
    if len(posterior.law.inputs) > 1:
        return plot.intervals(posterior, ax=ax, **options)
    name = posterior.law.inputs[0]
    size = float(posterior.law_inputs(decision.forecast.points)[0, 0])
    end = max(1.5 * size, 1.5 * float(posterior.runs.frame[name].max()))
    return plot.intervals(posterior, ax=ax, upto=end, **options)


def what_would_change(posterior: Fitted, decision: Decision, changes: Part | None) -> Part:
    """Return the part about what would change the answer, and what else to know before signing."""
    notes = [part for part in re.split(r"(?<=\.) (?=[A-Z])", words(decision.change)) if part]
    if decision.answer != "cannot say":
        notes += [words(str(caveat)) for caveat in decision.caveats]
    notes += [words(text) for text in decision.remarks]
    if changes is not None:
        notes.append(words(" ".join(changes.sentences)))
    if not notes:
        notes = ["Nothing that was looked at."]
    shown_notes = list(dict.fromkeys(notes))[:MOST_CHANGES]
    return Part("What would change the answer", notes=[*shown_notes, *counted(posterior)], half=True)


def counted(posterior: Fitted) -> list[str]:
    """Return one line with the number of rows left out; empty if there were none."""
    rows = {row for entry in posterior.runs.log if entry.severity == "excluded" for row in entry.rows}
    warned = sum(entry.severity == "warning" for entry in posterior.runs.log)
    parts = []
    if rows:
        were = "row of the table was" if len(rows) == 1 else "rows of the table were"
        parts.append(f"{len(rows)} {were} left out as failed, unfinished or repeated (appendix).")
    if warned:
        was = "warning" if warned == 1 else "warnings"
        parts.append(f"Reading the table gave {warned} {was} (appendix).")
    return [" ".join(parts)] if parts else []


def run_words(at: dict[str, float]) -> str:
    """Write the inputs of the run in question in words."""
    return quantities(at)


def response(posterior: Fitted) -> str:
    """Return the name of the response in words."""
    named = posterior.response if posterior.runs.response_scale is not None else posterior.law.response
    return words(named.split(",")[0])


# --- The appendix -----------------------------------------------------------------------------------------------


def forecasts(posterior: Fitted, decision: Decision) -> Part:
    """Return the part with quantiles of the run and of the mean curve, and the density of the run."""
    rows = []
    curve = posterior.forecast_at(pd.DataFrame([decision.at]), "mean")
    for label, forecast in {"one run with a new seed": decision.forecast, "the mean curve": curve}.items():
        ends = forecast.quantile([0.025, 0.1, 0.5, 0.9, 0.975])[:, 0]
        row = {"forecast of": label, "2.5 %": ends[0], "10 %": ends[1], "median": ends[2], "90 %": ends[3]}
        chance = forecast.probability_met(decision.target)[0]
        rows.append(row | {"97.5 %": ends[4], f"P({decision.side} {decision.target:g})": chance})
    density = picture(
        plot.forecast(decision.forecast, target=decision.target), "Where one run with a new seed would end"
    )
    return Part("The forecast", [words(decision.chances), words(decision.stake)], pd.DataFrame(rows), [density])


def assumptions(posterior: Fitted, decision: Decision | None) -> Part:
    """Return the part about assumptions and the findings of checks."""
    law, noise = posterior.law, posterior.likelihood
    discrepancy = "no discrepancy: the law is taken to be exact"
    if posterior.discrepancy is not None:
        discrepancy = "discrepancy: the truth departs from the law, little inside the data and more with distance"
    sentences = [
        f"Law {law.name}: {law.info.summary}",
        *mixture_words(posterior),
        f"Beyond the law: {discrepancy}; {noise.says} of runs around it"
        + ("; seed noise of its own, by default of the size found in published replicates." if noise.seed_sd else "."),
        *priors_words(posterior),
    ]
    forecast = None if decision is None else decision.forecast
    notes = [str(caveat) for caveat in decision.caveats] if decision is not None else []
    # The page has a table with past coverage, so that note is not repeated.
    notes += [str(note) for note in posterior.check(forecast) if note.code != "record"]
    return Part("What this rests on", [*sentences, str(posterior.status)], notes=list(dict.fromkeys(notes)))


def mixture_words(posterior: Fitted) -> list[str]:
    """Describe the components and weights of a mixture; empty for a single posterior."""
    if len(posterior.components) == 1:
        return []
    parts = zip(posterior.weights, component_labels(posterior), strict=True)
    listed = ", ".join(f"{100 * weight:.0f} % {label}" for weight, label in parts)
    number = len(posterior.components)
    return [f"All numbers come from a mixture of {number} posteriors of this law on the same runs: {listed}."]


def priors_words(posterior: Fitted) -> list[str]:
    """Describe the priors of each posterior in words; priors that several share are listed once."""
    told = [prior_words(part.law) for part in posterior.components]
    common = [line for line in told[0] if all(line in own for own in told)]
    sentences = [f"Before the runs were seen: {'; '.join(common)}."] if common else []
    for label, own in zip(component_labels(posterior), told, strict=True):
        if rest := [line for line in own if line not in common]:
            sentences.append(f"Of the posterior {label}: {'; '.join(rest)}.")
    return sentences


def changed(posterior: Fitted, decision: Decision, progress: bool | None = None) -> Part:
    """Return the part with answers under changed assumptions."""
    table = sensitivity(posterior, decision.target, at=decision.at, progress=progress)
    table["change"] = table["change"].map(words)
    stated = table.dropna(subset=["probability"])
    low, high = stated["probability"].min(), stated["probability"].max()
    sentences = [f"Under the changes below the probability lies between {low:.2f} and {high:.2f}."]
    if decision.break_even is not None:
        turned = stated[(stated["probability"] > decision.break_even) != (decision.probability > decision.break_even)]
        if turned.empty:
            sentences.append("None of them takes it across the break-even probability.")
        else:
            sentences.append(f"It crosses the break-even probability under: {'; '.join(turned['change'])}.")
    table = table.rename(
        columns={"probability": f"P({decision.side} {decision.target:g})", "low": "10 %", "high": "90 %"}
    )
    return Part("How much depends on what was assumed", sentences, table.drop(columns="group"))


def pilots(decision: Decision) -> Part:
    """Return the part with the runs to make next."""
    if decision.pilots is None:
        remedy = [caveat.remedy for caveat in decision.caveats]
        return Part("What to run next", remedy or ["No pilots were considered."])
    names = {"evsi": "worth of its result", "evsi_error": "Monte-Carlo error", "enbs": "worth less cost"}
    names |= {"information": "information (nats)", "sd_after": "sd of ln loss left"}
    table = decision.pilots.frame.rename(columns=names).drop(columns="rank")
    sentences = [words(text) for text in (decision.pilots.text, *(caveat.remedy for caveat in decision.caveats))]
    return Part("What to run next", sentences, table)


def constants(posterior: Fitted) -> Part:
    """Return the part with the law's constants and their intervals; for a mixture, those of each component."""
    rows = []
    for part, label, weight in zip(posterior.components, component_labels(posterior), posterior.weights, strict=True):
        whose = {} if len(posterior.components) == 1 else {"model": label, "weight": weight}
        for name, values in own_draws(part).items():
            low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
            called = f"{name} (relative)" if name in SPREADS else name
            rows.append({**whose, "quantity": called, "5 %": low, "median": median, "95 %": high})
    return Part("Constants of the fit", table=pd.DataFrame(rows))


def data(posterior: Fitted) -> Part:
    """Return the part with the fitted runs."""
    frame = posterior.runs.frame
    shown = frame.drop(columns="family") if frame["family"].nunique() == 1 else frame
    rest = len(frame) - MOST_ROWS
    sentence = f"{words(str(posterior.runs))}." + (f" The first {MOST_ROWS} of {len(frame)} runs:" if rest > 0 else "")
    return Part("The runs", [sentence], shown.head(MOST_ROWS))


def left_out(posterior: Fitted) -> list[Part]:
    """Return the parts about rows that were left out when the table was read, and about warnings.

    Empty without these.
    """
    told = [entry for entry in posterior.runs.log if entry.severity != "info"]
    if not told:
        return []
    rows = {row for entry in told if entry.severity == "excluded" for row in entry.rows}
    sentence = f"Rows of the table that are failed, unfinished or repeated: {len(rows)}." if rows else ""
    return [Part("Rows left out and warnings", [sentence], notes=[str(entry) for entry in told])]


def provenance(posterior: Fitted, command: str) -> Part:
    """Return the part with everything needed to make this page again."""
    versions = ", ".join(
        [f"bayescale {__version__}", *(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)]
    )
    drawn = [
        f"{SAMPLERS.get(part.diagnostics.method, part.diagnostics.method)}, {part.unconstrained.shape[0]} chains x "
        f"{part.unconstrained.shape[1]} draws"
        for part in posterior.components
    ]
    facts = [
        f"Data: {len(posterior.runs)} rows, sha256 {posterior.runs.digest}",
        f"Draws: {'; '.join(dict.fromkeys(drawn))}, seed {posterior.seed}",
        f"Versions: {versions}, Python {platform.python_version()}",
        f"Made {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    ]
    return Part("Provenance", notes=facts + ([f"Command: {command}"] if command else []))


# --- Pictures ---------------------------------------------------------------------------------------------------


def picture(ax: Axes, caption: str) -> tuple[str, bytes]:
    """Return a caption and a figure as SVG, with letters as shapes so that no font is needed."""
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "bayescale"}):
        figure = figure_of(ax)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    # The figure is used here only, and pyplot would keep it in memory.
    pyplot.close(figure)
    return caption, buffer.getvalue()


assert set(ANSWERS) == {"go", "no-go", "pilot first", "cannot say"}, "the style of the page knows every answer"
