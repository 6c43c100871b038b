"""Texts of the page `docs/laws.md` that do not belong to one law."""

from __future__ import annotations

SECTIONS = {
    "one_input": "One scale input",
    "joint": "Parameters with tokens, steps, compute or shape",
    "data": "Data: repetition, fine-tuning, filtering, mixtures, teachers",
    "architecture": "Architecture",
    "precision": "Number formats: quantisation and training in few bits",
    "schedule": "Learning-rate schedules and best settings",
    "downstream": "Scores: tasks by scale, loss and skill",
    "trends": "Minima, maxima, sudden changes, straight lines and no trend",
    "inference": "Compute at test time",
    "posttraining": "Post-training: reinforcement learning, rewards, fine-tuning, languages",
    "data_decisions": "Decisions about data",
    "shape": "Shape at a budget, stability",
}
"""Heading of each section, by the module that registers its laws."""

TOP = """The catalogue has {laws} laws, which use {functions} different functions. `bayescale laws NAME` shows a law \
by name, nickname, author or title. `bs.laws.get(name)` returns a law. `bs.laws.search("muennighoff")` returns the \
names of laws that match an author. `law.published(key)` returns the law with a set of published constants. \
`python -m bayescale.laws.describe` writes this page.

## How to read an entry

- The first paragraph gives the formula of the law, and then its limits. Powers come before products, and products \
before sums: `A N^-a` is A times N to the power -a. `ln` is the natural logarithm.
- **paper**: authors, year and title of the paper that published the law, its key in `references.bib`, and how the \
equation was checked.
- **inputs**: name of each input, its symbol in the formula, and its meaning. A law with the input `x` accepts one \
input of any name, such as parameters, tokens or compute.
- **response**: the quantity that the formula gives. There are three kinds of laws:
    - A law without a remark accepts data with a loss or a score. A loss is any positive quantity that is better when \
it is lower. For a score, the formula gives the *odds against*: (ceiling - score) / (score - chance). You specify the \
chance level and the ceiling when you read the data. The odds against decrease as the score improves. For a value of \
any sign, such as a reward v, the formula gives exp(-(v - middle) / range), where middle and range are those of the \
fitted values.
    - A law whose response is *calculated from a score* gives the odds against. Data with a loss or a value raise an \
error.
    - A law *not for data with a score* gives another positive quantity. Data with a score or a value raise an error.
- **discrepancy over**: quantities along which the true curve may depart from the law (see \
[discrepancy](concepts/discrepancy.md)). Without this line, these quantities are the inputs.
- **priors**: the prior of each constant; see the next section.
- **published constants**: sets of values for raw inputs (counts, not divided by anything) and for the response in the \
unit of the paper. Each set says how it was checked:
{checks}
- **equals**: a simpler law, and the values of constants or inputs at which this law is equal to it.
- **other names**: names of the same law in other papers.

## Priors

A fit divides each input by its geometric mean over the data. This mean is the *reference scale*, called "the middle \
of the runs" below. Inputs with a fixed meaning, such as bits, numbers of experts and fractions, are not divided. \
Priors are for the constants of the law of the divided inputs. The *training span* of an input x is the difference \
between the largest and the smallest ln x in the data, and at least ln 2.

Each prior has one of the following kinds. `median` is the median of the constant. The `sd` beside a median is the \
standard deviation of the natural logarithm of the constant: sd=0.5 means that the constant lies between 0.44 and 2.3 \
times its median with probability 90 %. The `sd` beside a `mean` is the standard deviation of the normal distribution \
with this mean. `Break`, `Plateaus` and `Shares` show only values that differ from the defaults given here.
"""
"""First part of the page."""

ROLES = {
    "Break": "One or several inputs at which the slope of the law changes, in increasing order. On a logarithmic axis "
    "on which the training data range from -1/2 to 1/2, the first of them is Normal(mean, sd). The distance from each "
    "one to the next is LogNormal(ln gap, 0.5). Defaults: mean=0, sd=0.35, gap=0.3.",
    "Exponent": "A positive exponent of an input: LogNormal(ln median, sd). This kind is used where published laws "
    "suggest a median.",
    "Fall": "The exponents of one or several inputs. The prior is on the decrease b of ln(law) when all inputs grow by "
    "their training spans, computed from the slope of the law at the reference scale. b is LogNormal(ln median, sd). "
    "For each pair of inputs, the ratio of exponent times training span is LogNormal(0, 1).",
    "Fixed": "A constant that is not sampled. N0, X0 and other constants with `Fixed(value=1.0)` are the reference "
    "scale of an input, which is 1 after the division.",
    "Fraction": "A constant between 0 and 1: its logit is Normal(mean, sd).",
    "Level": "The amplitude that multiplies the whole law. The prior is on the value of the law at the reference "
    "scale: the logarithm of this value is Normal(m, sd), where m is the mean of ln(response) over the data.",
    "Outer": "The power k of a sum of terms: LogNormal(ln median, sd).",
    "Plateaus": "The constants E, A and g of E + A / (g + x^c): a floor E at large x, and a plateau E + A / g at small "
    "x. The value of the law at the reference scale has the prior of `Level` with sd=0.3. The fit is a "
    "[mixture](concepts/mixtures.md) of models with and without a plateau. In a model without a plateau (g = 0), the "
    "logit of the fraction f = E / (E + A) is Normal(0, 1.7). In a model with a plateau, let F = f / (1 - f), where f "
    "is the fraction of the value at the reference scale that is E, and W = g (1 + F). Then arsinh(F - W) is "
    "Normal(0.8, 2), and F W is fixed at 0.81. F - W is positive where the curve becomes flatter on log-log axes, and "
    "negative where it becomes steeper.",
    "Positive": "A positive constant: LogNormal(ln median, sd).",
    "Real": "A constant of either sign: Normal(mean, sd).",
    "Shares": "Terms of a sum. The value of the sum at the reference scale has the prior of `Level` with sd=0.3. "
    "Further priors are on the fractions of this value. The first term is the floor; the logit of its fraction is "
    "Normal(0, 1.7). The other terms divide the rest in order. If m terms follow a term, the logit of its fraction of "
    "what remains is Normal(-ln m, 1.5). The last term has what remains. With `floor=False` the first term is one like "
    "the others. With `outer=k` the terms after the floor are added, and their sum is raised to the power k.",
    "Slope": "A positive exponent of the only input. The exponent times the training span is LogNormal(ln median, sd).",
    "Turn": "A change of exponent, or an exponent of either sign. The constant times the training span is Normal(mean, "
    "sd).",
}
"""Explanation of each kind of prior."""

SYMBOLS = {
    "kaplan_params": ("N",),
    "kaplan_tokens": ("D",),
    "kaplan_compute": ("C",),
    "kaplan_critical_batch": ("L",),
    "kaplan_steps": ("N", "S_min"),
    "accelerator_hours": ("H",),
    "optimal_params": ("C",),
    "hestness": ("m",),
    "vision_language_frontier": ("C",),
    "superposition": ("m",),
    "henighan_params": ("N",),
    "henighan_compute": ("C",),
    "henighan_optimum": ("C",),
    "sparse_average": ("Nbar", "D"),
    "distillation": ("N", "D", "T"),
    "step_batch": ("D",),
    "weight_decay_width": ("d",),
    "rate_by_width": ("d",),
    "pass_until": ("N",),
    "pass_rate": ("C",),
    "transfer_loss": ("D",),
    "annotated_samples": ("N",),
    "coverage_power": ("k",),
    "coverage_ceiling": ("k",),
    "votes": ("k",),
    "robot_samples": ("k",),
    "verifier_gap": ("H",),
    "video_text": ("f", "c"),
    "attack_success": ("t", "a"),
    "scale_rl": ("C",),
    "aspect_valley": ("N", "r"),
    "rate_valley": ("N", "lr"),
    "logit_growth": ("N", "lr"),
}
"""Symbols of the inputs in the summary of a law, where they differ from the arguments of its function."""

TRENDS = {
    "a score by any scale input": ("logistic", "logistic_ceiling", "gompertz"),
    "a score of a task that has easy and hard items": ("difficulty_mixture",),
    "a score with a maximum or a minimum": ("inverted_u_score", "u_shaped_score", "thinking_peak"),
    "a score at a fixed budget with a best setting": ("valley", "moving_valley"),
    "pass@k, best of n, search with a verifier": ("coverage_power", "coverage_beta", "attempts_plateau"),
    "accuracy by thinking tokens, or by rounds of revision": ("thinking_logistic", "votes"),
    "a score by the number of examples or tasks of fine-tuning": (
        "instruction_data",
        "instruction_tasks",
        "finetune_mixture",
    ),
    "reinforcement learning by compute": ("scale_rl", "rl_compute", "rl_logistic"),
    "an error by model size, data and a third input": ("three_input_outer", "width_depth_resolution"),
    "a response that may not change with scale": ("signed_power", "no_trend"),
    "a sudden change": ("sharp_transition", "broken_1"),
}
"""Laws for trends that papers report without an equation, by trend."""

NOT_LAWS = {
    "Choice of single items (Schaeffer et al. 2024)": "the model needs a categorical likelihood, with the log "
    "likelihoods of all choices of each item as the response. `choice_probabilities` describes their mean.",
    "Skills behind many benchmarks (Ruan et al. 2024; Sloth)": "these are factor models whose response is a table of "
    "models by benchmarks. `observational` treats the skill as known, without error.",
    "Several demands at once (Zhou et al. 2025)": "this is a factor model of item responses in many dimensions. "
    "`demand_ability` has one demand.",
    "Linearity and breakthroughness (BIG-bench, PaLM)": "these are measures of a curve, not curves. Compute them from "
    "the draws of `predict`. `sharp_transition` describes the breakthrough of a score.",
    "Families from few runs (Hitchhiker's guide, the fine line)": "these papers give advice on pooling families and "
    "sizes, not a curve; see `bs.pool`.",
    "Conformal control of test-time scaling (ATTS)": "this is a procedure with a guarantee for exchangeable answers, "
    "not a curve.",
    "Metrics of test-time scaling (ARISE)": "these are metrics, not curves. With `thinking_peak`, P(T < x) is the "
    "probability that thinking beyond x tokens decreases the score.",
    "Budgets over stages (AgentTTS)": "this is a choice among products of laws. `laws.optimum.best` accepts any path.",
    "Particle methods at inference": "these are algorithms. `bs.decide.compare` compares the rates of two algorithms.",
    "Accuracy at a cost (Sadhukhan et al. 2025)": "this needs two laws with different responses: `kinetics` for the "
    "cost, and a law of coverage (the fraction of problems solved) for the accuracy.",
    "Threshold theory of grokking": "the theory gives bounds without constants for tasks of group arithmetic.",
    "Counter-examples (Alice in Wonderland, LIMR)": "these papers show that a trend fails. `check` looks for such "
    "failures in your data.",
}
"""Papers whose law is not in the catalogue, with the reason."""

LEFT_OUT = (
    "`hestness`, `farseer`, `precision`, `floating_point`, `distillation`, `sparse_experts`, `multilingual`, "
    "`encoder_decoder`, `time_series` and `interatomic_potential`: no text that prints their constants was found.",
    "`quantised_training` with 16-bit weights and an 8-bit second layer: the available copy of the table is corrupt.",
    "`chinchilla` on other subsets of the Gemstones runs: McLeish et al. (2025) print exponents without amplitudes.",
    "`optimal_params` for untuned recipes: Porian et al. (2024) print exponents from .864 down to .571 without "
    "amplitudes.",
    "`leverage`: the best learning rate C^-.1529 and the best batch C^.3644 are quoted without amplitudes.",
)
"""Published constants that are not in the registry, with the reason."""
