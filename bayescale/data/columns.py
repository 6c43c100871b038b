"""Columns: which canonical column (n_params, loss, ...) a column of a file is, by its name."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable

from bayescale.data.cells import PETAFLOP_DAY, SUFFIXES, clean

NOISE = frozenset(
    (
        "config configs summary cfg conf model args hparams hyperparameters train training trained pretrain "
        "pretraining n num number of count in the net network arch architecture transformer llm lm nr no raw "
        "actual final info stats metadata trainings"
    ).split()
)
"""Words that do not change the role of a column of inputs."""
NAMESPACES = frozenset(
    (
        "config summary params metrics tags cfg args hparams attributes data meta result results optim optimizer "
        "run stats info metadata"
    ).split()
)
"""First parts of nested names that only say where a value was stored."""
SIZE_KINDS = frozenset(
    (
        "active activated total non nonembedding embedding nonembed embed emb nonemb trainable dense effective all"
    ).split()
)
"""Words that say which parameters are counted."""
ACHIEVED = frozenset(("seen", "consumed", "processed", "trained", "actual", "achieved", "far"))
"""Words for tokens on which a run was actually trained."""
PLANNED = frozenset(("planned", "target", "max", "expected", "scheduled", "goal", "budget", "plan"))
LOSSES = frozenset(("loss", "losses", "nll", "xent", "ce", "crossentropy", "bpb", "bpc", "logloss"))
ERRORS = frozenset(("error", "err", "mse", "mae", "rmse", "wer", "cer", "ppl", "perplexity"))
SCORES = frozenset(
    (
        "acc accuracy auc auroc auprc aupr f1 score bleu rouge mmlu hellaswag winrate precision recall reward "
        "elo gsm8k humaneval mcc iou map exact r2 spearman"
    ).split()
)
"""Words of responses that increase as models get better."""
NO_RESPONSE = frozenset(
    (
        "aux auxiliary balance balancing load router z zloss grad scale scaler std stderr se sd sem var variance "
        "weight mask spike spikes delta diff gap difference improvement change target pred predicted prediction "
        "forecast fit fitted residual baseline name function type fn reduction coef coefficient step per budget "
        "ema smoothed fraction penalty expected planned rank ln log log2 log10 excess reducible above minus floor "
        "relative normalized normalised ratio speedup"
    ).split()
)
"""Words that show that a column of losses is not the response."""
VALIDATION = frozenset(("val", "valid", "validation", "eval", "evaluation", "test", "heldout", "holdout", "dev"))
TRAINING = frozenset(("train", "training"))
OUTCOMES = frozenset(
    (
        "runtime created time date throughput second sec mfu hfu tags host url link wall hours hour gpu "
        "timestamp updated user notes duration id seed elapsed started ended finished grad norm memory commit "
        "sweep path unnamed index file"
    ).split()
)
"""Words of columns that describe how a run went rather than how it was set up."""

EXACT = {
    role: tuple(names.split())
    for role, names in {
        "n_params": "n_params nparams numparams param_count paramcount",
        "n_tokens": "n_tokens ntokens numtokens token_count",
        "family": "family model_family recipe group series suite variant",
        "run": "run run_name run_id runid name exp_name experiment_name display_name",
        "seed": "seed random_seed rng_seed config_seed global_seed train_seed model_seed",
        "step": ("step global_step train_step training_step steps iter iters iteration iterations"),
        "status": "status state run_status run_state",
        "note": "note notes comment comments remark remarks",
        "metric": "metric",
        "value": "value",
        "correct": (
            "correct n_correct num_correct passed n_passed num_passed solved num_solved "
            "successes num_successes hits passes n_passes num_passes n_right num_right right_items correct_items"
        ),
        "n_items": "n_items num_items items n_questions num_questions questions n_total",
        "attempts": "attempts n_attempts num_attempts tries trials n_trials",
        "n_samples": (
            "n_samples num_samples samples dataset_size train_size n_train num_examples "
            "n_examples training_examples train_examples n_images num_images images_seen "
            "samples_seen"
        ),
        "unique_samples": "unique_samples",
        "tokens_per_param": (
            "tokens_per_param tokens_per_parameter tpp token_param_ratio tokens_to_params "
            "tokens_per_params tokens_per_parameters tokens_per_active_param "
            "tokens_per_active_parameter token_per_param tokens_param_ratio d_over_n "
            "token_to_param_ratio tokens_per_active_params tokens_param tok_param tokens_params toks_per_param "
            "tok_per_param tokens_parameter tokens_per_n token_per_parameter"
        ),
        "chinchilla_multiple": "chinchilla_multiple chinchilla_multiplier chinchilla_ratio chinchilla_factor",
    }.items()
}
"""Names with few spellings, by canonical name; words joined by underscores, in lower case."""
SINGLE_LETTERS = {"N": "n_params", "D": "n_tokens", "C": "flops", "L": "loss"}
UNITS = {"eflop": 1e18, "eflops": 1e18, "pflop": 1e15, "pflops": 1e15, "zflop": 1e21, "zflops": 1e21}
UNITS |= {"tflop": 1e12, "tflops": 1e12, "gflop": 1e9, "gflops": 1e9, "exaflop": 1e18, "exaflops": 1e18}
UNITS |= {"petaflop": 1e15, "petaflops": 1e15, "zettaflop": 1e21, "zettaflops": 1e21, "yflops": 1e24}
NUMERALS = {"tsd": 1e3, "tausend": 1e3, "millionen": 1e6, "milliarden": 1e9, "milliard": 1e9, "milliards": 1e9}
NUMERALS |= {"md": 1e9, "mds": 1e9}
"""Numerals in German and French headings, in addition to those in cells."""
TIMES = {"second": 1.0, "sec": 1.0, "s": 1.0, "minute": 60.0, "min": 60.0, "hour": 3600.0, "hr": 3600.0, "h": 3600.0}
TIMES |= {"day": 86400.0, "d": 86400.0, "week": 604800.0}
TIMES |= {f"{unit}s": seconds for unit, seconds in TIMES.items() if len(unit) > 1}
"""Seconds in each unit of time."""
WORDLESS_UNITS = frozenset(
    ("nats", "nat", "bits", "bit", "flops", "flop", "tokens", "token", "raw", "count", "params", "fp")
)
ROLES = [
    "family",
    "run",
    "seed",
    "step",
    "n_params",
    "n_tokens",
    "flops",
    "n_samples",
    "unique_tokens",
    "unique_samples",
    "loss",
    "metric",
    "value",
    "value_se",
    "status",
    "note",
    "planned_tokens",
    "train_loss",
    "correct",
    "n_items",
    "attempts",
    "tokens_per_param",
    "chinchilla_multiple",
]
"""All canonical column names."""


SCALED = ("n_params", "n_tokens", "flops", "planned_tokens", "unique_tokens", "n_samples", "unique_samples")
"""Columns of counts, which files may give in millions or billions."""


@dataclasses.dataclass(frozen=True)
class Heading:
    """Role, unit and words of a column's name.

    Attributes:
        name: The name in the file.
        role: Canonical name of the column; empty if it is not recognised.
        kind: Variant of the role: which parameters are counted; which kind of response, and on which part of the data.
        factor: Factor from the column's numbers to raw counts or fractions; 1 where the name contains no unit.
        unit: The unit as written in the name.
        exact: Whether the name is the canonical name.
        bracket: Factor and unit in brackets after the name, for a column whose role the caller specifies.
    """

    name: str
    role: str = ""
    kind: str = ""
    factor: float = 1.0
    unit: str = ""
    exact: bool = False
    bracket: tuple[float, str] = (1.0, "")

    def told(self, role: str) -> Heading:
        """Return the heading with the role that the caller specified; a unit in the name still counts."""
        if role not in SCALED:
            ours, theirs = time_unit(role), time_unit(self.name)
            if not ours or not theirs or TIMES[ours] == TIMES[theirs]:
                return self
            return dataclasses.replace(self, factor=TIMES[theirs] / TIMES[ours], unit=f"{theirs} in {ours}")
        if self.role in SCALED:
            return self
        return dataclasses.replace(self, factor=self.bracket[0], unit=self.bracket[1])


def time_unit(name: str) -> str:
    """Return the unit of time in a name, such as hours in ``wall_hours``; empty where there is none, or several."""
    found = [word for word in words_of(name) if word in TIMES]
    return found[0] if len(found) == 1 else ""


def words_of(text: str) -> list[str]:
    """Split a name into words in lower case: ``numParams`` and ``num-params`` give the same words."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return [word.lower() for word in re.findall(r"[^\W\d_]+\d*|\d+", parted)]


def unit_of(text: str) -> float | None:
    """Return the factor of a unit such as ``M``, ``in billions``, ``1e9``, ``10^18`` or ``PF-days``, or None."""
    bare = clean(text)[0].lower().strip().rstrip(".")
    bare = re.sub(r"^(in\b|en\b|x|×|\*)\s*(?=\S)", "", bare).strip()
    if re.fullmatch(r"p(eta)?f(lops?)?(/s)?[-\s]*days?", bare):
        return PETAFLOP_DAY
    if found := re.fullmatch(r"(?:1e\+?|10\s*\^\s*)(-?\d+)(?:\s*(?:flops?|tokens?|params?))?", bare):
        return float(f"1e{found[1]}") if abs(int(found[1])) < 40 else None
    if bare in ("%", "percent", "pct"):
        return 0.01
    first, _, rest = bare.partition(" ")
    known = SUFFIXES | NUMERALS
    if (rest in WORDLESS_UNITS or not rest) and first.rstrip(".") in known:
        return known[first.rstrip(".")]
    return UNITS.get(bare)


def heading(name: str) -> Heading:
    """Return the role and unit of a column from its name."""
    text = clean(str(name))[0]
    factor, unit, extra = 1.0, "", ""
    for found in re.finditer(r"[(\[]([^()\[\]]*)[)\]]", text):
        known = unit_of(found[1])
        if known is not None:
            factor, unit = known, found[1]
        elif not set(words_of(found[1])) <= WORDLESS_UNITS and not re.fullmatch(
            r"\s*6\s*\*?\s*n\s*\*?\s*d\s*", found[1], re.I
        ):
            extra += f" {found[1]}"
    bare = re.sub(r"[(\[][^()\[\]]*[)\]]", " ", text).strip()
    if bare.endswith("%"):
        bare, factor, unit = bare[:-1].strip(), 0.01, "%"
    bracket = (factor, unit)
    found = named(bare + extra, bare)
    if not found.role and (parts := re.match(r"^([A-Za-z]+)[./](.+)$", bare)) and parts[1].lower() in NAMESPACES:
        found = named(parts[2] + extra, parts[2])
    if found.role in SCALED:
        if factor == 1.0:
            factor, unit = found.factor, found.unit
    elif factor > 1.0:
        # "Loss (B)" is the loss of a recipe B, not in billions.
        factor, unit = 1.0, ""
    return dataclasses.replace(
        found, name=str(name), factor=factor, unit=unit, exact=str(name) == found.role, bracket=bracket
    )


def named(text: str, bare: str) -> Heading:
    """Return the role of a name without units."""
    if bare in SINGLE_LETTERS:
        return Heading(text, SINGLE_LETTERS[bare], "loss" if bare == "L" else "")
    words = words_of(text)
    joined = "_".join(words)
    if bare.replace(" ", "").upper() == "D/N":
        return Heading(text, "tokens_per_param")
    for role, names in EXACT.items():
        if joined in names:
            return Heading(text, role)
    if joined in ROLES:
        return Heading(text, joined, "loss" if joined == "loss" else "")
    return scale(text, words) or response(text, words) or Heading(text)


def scale(text: str, words: list[str]) -> Heading | None:
    """Return the heading if the name is that of a scale input, or None."""
    factor, unit = 1.0, ""
    if len(words) > 1 and words[-1] in SUFFIXES:
        factor, unit, words = SUFFIXES[words[-1]], words[-1], words[:-1]
    left = set(words)
    if left & {"params", "parameters", "param", "parameter", "nparams", "numparams"}:
        left -= {"params", "parameters", "param", "parameter", "nparams", "numparams"} | NOISE
        if left <= SIZE_KINDS | {"size"}:
            kind = " ".join(word for word in words if word in SIZE_KINDS)
            return Heading(text, "n_params", kind, factor, unit)
        return None
    if words[:1] == ["n"] and len(words) > 1 and left - {"n"} <= SIZE_KINDS:
        return Heading(text, "n_params", " ".join(words[1:]), factor, unit)
    if left <= {"model", "size", "n", "non", "embedding", "active", "total"} and "size" in left:
        return Heading(text, "n_params", "size" if left == {"size"} else "", factor, unit)
    if left & {"tokens", "token", "ntokens", "numtokens", "toks"}:
        left -= {"tokens", "token", "ntokens", "numtokens", "toks"} | NOISE
        if left & {"unique", "distinct"} and left <= {"unique", "distinct", "dataset", "data", "total"}:
            return Heading(text, "unique_tokens", "", factor, unit)
        if left & PLANNED and left <= PLANNED | {"total", "data", "dataset"}:
            return Heading(text, "planned_tokens", "", factor, unit)
        if left <= ACHIEVED | {"total", "data", "dataset", "so", "throughput"}:
            kind = "achieved" if set(words) & ACHIEVED or "throughput" in left else ""
            return Heading(text, "n_tokens", kind, factor, unit)
        return None
    compute = {"flops", "flop", "compute", "budget", "isoflop", "isoflops"} | set(UNITS)
    if left & compute:
        spelt = [word for word in words if word in UNITS]
        if {"petaflop", "days"} <= left or {"pflop", "days"} <= left or {"pf", "days"} <= left:
            factor, unit = PETAFLOP_DAY, "petaflop-days"
            left -= {"days", "day", "s", "pf"}
        elif spelt and left & {"total", "train", "training", "compute", "budget"}:
            factor, unit = UNITS[spelt[0]], spelt[0]
        elif spelt:
            # TFLOPs alone is the speed of a machine.
            return None
        if left - compute - NOISE <= {"total", "iso", "est", "estimated", "approx", "pre", "class", "c"}:
            return Heading(text, "flops", " ".join(w for w in words if w == "budget"), factor, unit)
    return None


def response(text: str, words: list[str]) -> Heading | None:
    """Return the heading if the name is that of a response or of its standard error, or None."""
    left = set(words)
    if left & {"se", "stderr", "sem"} or {"standard", "error"} <= left or {"std", "err"} <= left:
        return Heading(text, "value_se", " ".join(words))
    pairs = {f"{a}{b}" for a, b in itertools.pairwise(words)}
    triples = {"".join(part) for part in zip(words, words[1:], words[2:], strict=False)}
    if left & NO_RESPONSE - TRAINING and not ({"bitsperbyte", "bitspercharacter"} & triples):
        return None
    part = "train" if left & TRAINING and not left & VALIDATION else "val" if left & VALIDATION else ""
    if left & LOSSES or "crossentropy" in pairs or {"bitsperbyte", "bitspercharacter"} & triples:
        return Heading(text, "loss", f"loss {part}".strip())
    if left & ERRORS:
        return Heading(text, "loss", f"error {part}".strip())
    if (
        left & SCORES
        or {"winrate", "passrate", "exactmatch", "solverate"} & pairs
        or re.match(r"^pass@\d+$", text.lower())
    ):
        return Heading(text, "loss", f"score {part}".strip())
    return None


def is_outcome(name: str) -> bool:
    """Return whether a column describes how a run went rather than how it was set up."""
    words = set(words_of(name))
    found = heading(name)
    return bool(words & OUTCOMES) or found.role in (
        "loss",
        "value_se",
        "train_loss",
        "planned_tokens",
        "note",
        "status",
    )


def headings(names: Iterable[str]) -> dict[str, Heading]:
    """Return the role and unit of each column from its name."""
    return {name: heading(name) for name in names}
