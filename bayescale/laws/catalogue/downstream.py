"""Laws of scores on tasks: against scale, against the loss, and of skills."""

from __future__ import annotations

from math import log
from typing import Any

import jax.numpy as jnp

from bayescale.laws.priors import Exponent, Fall, Fraction, Level, Positive, Shares, Slope
from bayescale.laws.registry import alias, register_law, variant
from bayescale.laws.shapes import HOPELESS, odds_against, raised

ODDS: dict[str, Any] = {"response": "odds against being right", "describes": "odds"}
"""Fields that laws of scores have in common."""
STEEP = Slope(2.0, 0.8)
"""Prior of the decrease of the log odds of a score over a training span; losses decrease by a third of that."""


# --- Against scale -----------------------------------------------------------------------------------------

variant(
    "power",
    name="logistic",
    section="downstream",
    summary="Logistic curve of a score in ln x between chance and ceiling: odds against A x^-c.",
    cite="ruan2024observational",
    caveats="The fraction of the way from chance to ceiling is 1 / (1 + (x / m)^-c), so A = m^c. You specify the "
    "chance level and the ceiling when you read the score.",
    form="ours",
    nicknames=("sigmoid in log compute", "accuracy curve"),
    **ODDS,
)
variant(
    "saturating_power",
    name="logistic_ceiling",
    section="downstream",
    summary="Logistic curve of a score in ln x below an unknown ceiling: odds against E + A x^-c.",
    cite="ruan2024observational",
    caveats="As x grows, the score approaches chance + (ceiling - chance) / (1 + E), where ceiling is the specified "
    "one. Runs before the bend of the curve contain little information about E.",
    form="ours",
    nicknames=("sigmoid with a ceiling",),
    **ODDS,
)
variant(
    "power",
    name="observational",
    section="downstream",
    summary="Score by the compute at which models of a reference family have equal skills: odds against A x^-c.",
    cite="ruan2024observational",
    caveats="The score is a sigmoid in ln x. Ruan et al. (2024) compute this equivalent compute from the first "
    "principal components of a table of benchmarks; the law treats it as known. Their ceiling lies between .8 "
    "and 1; specify it when reading the data, ceiling= (--ceiling). They do not state the base of the logarithm "
    "of their slopes, so their constants are not included.",
    inputs=("equivalent_flops",),
    nicknames=("observational scaling laws",),
    **ODDS,
)


@register_law(
    inputs=("x",),
    cite="hu2023predicting",
    priors={"A": Positive(1.0, 1.2), "c": STEEP},
    units={"A": ("x", "c")},
    decreasing=("x",),
    form="ours",
    nicknames=("Gompertz curve", "exponential of a power law"),
    **ODDS,
)
def gompertz(x: Any, *, A: Any, c: Any) -> Any:
    """Gompertz curve of a score in ln x between chance and ceiling, exp(-A x^-c): odds against e^(A x^-c) - 1.

    The score increases late and slowly. The negative logarithm of the score, as a fraction of the way from chance to
    ceiling, is a power law.
    """
    return odds_against(A * raised(x, -c))


variant(
    "gompertz",
    name="pass_until",
    summary="Probability of passing a task by parameters N: exp(-A N^-c), so -ln of the pass rate is a power law.",
    cite="hu2023predicting",
    caveats="Hu et al. (2023) sample until a fixed number of samples pass, which measures very small pass rates. "
    "Pass the fraction of samples that pass as the score, and the number of samples as n_items. Some tasks "
    "improve faster than the law. The constants could not be verified.",
    form="secondary",
    inputs=("n_params",),
    nicknames=("PassUntil", "emergent abilities"),
)
variant(
    "gompertz",
    name="pass_rate",
    summary="Mean pass rate by training compute C: exp(-A C^-c).",
    cite="openai2023gpt4",
    caveats="OpenAI (2023) fits a power law to the mean over problems of -ln(pass rate); this law describes the mean "
    "pass rate instead. The constants were not published. One task of the report became worse with scale.",
    form="secondary",
    inputs=("flops",),
    nicknames=("GPT-4", "HumanEval"),
)


@register_law(
    inputs=("x",),
    cite="xu2025unveiling",
    priors={"a": Positive(1.0, 1.2), "b": STEEP, "c": Positive(0.1, 1.0)},
    units={"a": ("x", "b")},
    decreasing=("x",),
    form="secondary",
    nicknames=("COD", "clustering on difficulty"),
    **ODDS,
)
def difficulty_cluster(x: Any, *, a: Any, b: Any, c: Any) -> Any:
    """Score of tasks of similar difficulty, g + (1 - g) exp(-a x^-b - c): odds against e^(a x^-b + c) - 1.

    g is the chance level that you specify when you read the score. The ceiling is g + (1 - g) e^-c. Xu et al. (2025)
    fit clusters of tasks, keep clusters with a > 1, b > .1 and c < 1, and map their scores to the whole benchmark.
    """
    return odds_against(a * raised(x, -b) + c)


@register_law(
    inputs=("x",),
    cite="xu2025unveiling",
    priors={"w": Fraction(0.0, 1.5), "A": Positive(0.5, 1.2), "c": STEEP, "r": Positive(5.0, 0.7)},
    units={"A": ("x", "c")},
    decreasing=("x",),
    form="ours",
    nests={"gompertz": {"r": 0.0}},
    nicknames=("difficulty mixture",),
    **ODDS,
)
def difficulty_mixture(x: Any, *, w: Any, A: Any, c: Any, r: Any) -> Any:
    """Score on easy and hard items, w exp(-A x^-c) + (1 - w) exp(-(1 + r) A x^-c): a curve that increases twice.

    A fraction w of the items is easy. The -ln of the pass rate of hard items is 1 + r times that of easy items. The
    data determine w only if the two increases lie apart. Xu et al. (2025) fit each cluster of items alone.
    """
    surprise = jnp.minimum(A * raised(x, -c), HOPELESS)
    further = jnp.minimum(r * surprise, HOPELESS)
    # Computed relative to the pass rate of easy items, which may be tiny.
    passed = w + (1.0 - w) * jnp.exp(-further)
    return (jnp.expm1(surprise) - (1.0 - w) * jnp.expm1(-further)) / passed


@register_law(
    inputs=("x",),
    cite="schaeffer2024elusive",
    priors={"terms": Shares(("A", "B"), floor=False), "c": STEEP, "d": Slope(0.7, 0.8)},
    units={"A": ("x", "c"), "B": ("x", "d")},
    decreasing=("x",),
    form="ours",
    nicknames=("multiple choice", "distractors"),
    **ODDS,
)
def choice_probabilities(x: Any, *, A: Any, c: Any, B: Any, d: Any) -> Any:
    """Probability of the correct choice among two kinds of wrong ones: odds against A x^-c + B x^-d.

    Each kind of wrong choice has one power law. If the log likelihoods of all choices are linear in ln x, the
    probability of a wrong choice divided by that of the correct choice is a power of x. Schaeffer et al. (2024) show
    that the probabilities of wrong choices determine how predictable an accuracy is. They fit no such curve.
    """
    return A * raised(x, -c) + B * raised(x, -d)


variant(
    "saturating_power",
    name="instruction_tasks",
    section="downstream",
    summary="Score on held-out tasks by the number x of tasks in instruction tuning: odds against E + A x^-c.",
    cite="iyer2022optiml",
    caveats="Iyer et al. (2022) report how the score changes with tasks, categories and model size. The curve was "
    "written for this package.",
    form="ours",
    inputs=("n_tasks",),
    nicknames=("OPT-IML", "instruction tuning"),
    **ODDS,
)
variant(
    "power",
    name="instruction_data",
    section="downstream",
    summary="Score by the number x of instruction examples, nearly linear in ln x: odds against A x^-c.",
    cite="tang2024textsquare",
    caveats="Tang et al. (2024) state that the score is linear in the logarithm of the number of examples. This law "
    "is a logistic curve between chance and ceiling, whose middle is nearly linear.",
    form="ours",
    inputs=("n_samples",),
    nicknames=("TextSquare", "instruction tuning"),
    **ODDS,
)
variant(
    "saturating_power",
    name="medical_scans",
    section="downstream",
    summary="Score of a medical image model by the number x of training scans: odds against E + A x^-c.",
    cite="blankemeier2024merlin",
    caveats="Blankemeier et al. (2024) fit scaling laws of F1 scores; their equation could not be read. An F1 score "
    "is not a fraction of items, so pass the number of cases with n_items=.",
    form="ours",
    inputs=("n_samples",),
    nicknames=("Merlin", "computed tomography"),
    **ODDS,
)
alias("knowledge_graph_engineering", "plateau_power", "heim2025knowledge")
alias("human_level_vision", "three_input_outer", "orhan2023scaling")


# --- Through the loss --------------------------------------------------------------------------------------


@register_law(
    inputs=("n_params", "n_tokens"),
    cite="bhagia2024ladder",
    priors={
        **{"F": Level(), "A": Positive(1.0, 0.8), "B": Positive(1.0, 0.8)},
        "falls": Fall(("alpha", "beta")),
    },
    units={"A": ("n_params", "alpha"), "B": ("n_tokens", "beta")},
    decreasing=("n_params", "n_tokens"),
    floor="F",
    nicknames=("OLMo ladder", "two steps", "task scaling law"),
    **ODDS,
)
def task_ladder(N: Any, D: Any, *, F: Any, A: Any, alpha: Any, B: Any, beta: Any) -> Any:
    """Score by parameters N and tokens D: odds against F exp(A N^-alpha + B D^-beta).

    Bhagia et al. (2024) fit two steps: loss = E + a N^-alpha + b D^-beta, and score = chance + range / (1 + exp(k (loss
    - L0))). So A = k a, B = k b and F = exp(k (E - L0)); scores alone determine only these products. F is the odds
    against at infinite scale. You specify the ceiling when you read the score.
    """
    return F * jnp.exp(jnp.minimum(A * raised(N, -alpha) + B * raised(D, -beta), HOPELESS))


@register_law(
    inputs=("task_loss",),
    cite="bhagia2024ladder",
    equation="the second step",
    priors={"F": Level(), "k": Positive(8.0, 0.7)},
    units={"k": ("task_loss", -1.0)},
    nicknames=("OLMo ladder", "loss to accuracy"),
    **ODDS,
)
def loss_sigmoid(L: Any, *, F: Any, k: Any) -> Any:
    """Score by the loss L on the same task, a sigmoid: odds against F e^(k L).

    Bhagia et al. (2024) write e^(-k L0) for F. The law treats the loss as known. Checkpoints of one run are not
    independent.
    """
    return F * jnp.exp(k * L)


@register_law(
    inputs=("n_tokens",),
    cite="isik2024downstream",
    priors={"K": Positive(4.0, 0.4), "alpha": Positive(0.2, 0.6), "beta": Positive(2.0, 0.3)},
    units=lambda c, ref: {"K": c["K"] - c["alpha"] * log(ref["n_tokens"])},
    response="BLEU or COMET in points",
    describes="quantity",
    counting={"n_tokens": "of pre-training, without repetition"},
    form="secondary",
    nicknames=("translation", "BLEU", "COMET"),
)
def bleu_log(D: Any, *, K: Any, alpha: Any, beta: Any) -> Any:
    """Quality of translation by tokens D of pre-training: (K + alpha ln D)^beta.

    Isik et al. (2024) write (ln(A D^alpha))^beta, so K = ln A; A D^alpha must be above 1. The law is valid if the
    pre-training data are similar to the language pair. Otherwise BLEU decreases again while the loss still decreases;
    `turning` and `rise_then_fall` describe such curves. K, alpha and beta are strongly correlated. The constants could
    not be verified.
    """
    return raised(jnp.maximum(K + alpha * jnp.log(D), 1e-3), beta)


variant(
    "saturating_power",
    name="transfer_loss",
    section="downstream",
    summary="Loss on a translation task after fine-tuning, by tokens D of pre-training: E + A D^-c.",
    cite="isik2024downstream",
    caveats="This loss decreases even where BLEU decreases. The constants of Isik et al. (2024) could not be verified.",
    form="secondary",
    inputs=("n_tokens",),
    counting={"n_tokens": "of pre-training, without repetition"},
)


# --- Skills ------------------------------------------------------------------------------------------------


@register_law(
    inputs=("demand", "ability"),
    cite="zhou2025general",
    priors={"A": Level(), "c": Exponent(1.0, 0.7)},
    units={"A": [("demand", "-c"), ("ability", "c")]},
    decreasing=("ability",),
    form="ours",
    nicknames=("item response", "Rasch model"),
    **ODDS,
)
def demand_ability(demand: Any, ability: Any, *, A: Any, c: Any) -> Any:
    """Success of a model on items that demand one ability: odds against A (demand / ability)^c.

    The success is a logistic curve in ln(ability / demand). Demand and ability are measured beforehand, on positive
    scales. If they are on a log scale, pass their exponentials.
    """
    return A * (demand / ability) ** c
