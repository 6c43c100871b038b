"""Reading variants of one table: numbers come out right, or the reader asks; never a wrong number, never another error.

A generator draws ladders in many spellings: names, units, locales, delimiters, encodings, orders, blanks. To try more
of them than the test does: `VARIANTS=500 pytest tests/test_read_variants.py`.
"""

import io
import json
import os

import numpy as np
import pandas as pd
import pytest

import bayescale as bs

SIZES = (
    "params",
    "N",
    "num_params",
    "model.num_params",
    "n_params",
    "Params (active)",
    "Non-embedding params",
    "parameters",
)
TOKENS = ("tokens", "D", "train_tokens", "data.tokens", "n_tokens", "Tokens", "tokens seen")
COMPUTE = ("flops", "C", "Budget (FLOPs)", "compute_budget", "training_flops", "Total FLOPs")
LOSSES = (
    "loss",
    "val_loss",
    "val/loss",
    "eval/macro_loss",
    "Validation Loss",
    "val_bpb",
    "final_val_loss",
    "Loss (nats)",
)
SUFFIXES = {"M": 1e6, "B": 1e9, "T": 1e12, "k": 1e3}
HEADERS = {"(M)": 1e6, "[B]": 1e9, "(millions)": 1e6, "(in billions)": 1e9, "(1e9)": 1e9}
OTHERS = ("lr", "n_layers", "width", "Notes", "Runtime", "weight_decay", "tags")


class Writer:
    """Writes numbers in one style, and remembers what they are after rounding."""

    def __init__(self, rng):
        self.rng = rng
        self.decimal = rng.choice([".", ".", ","])
        self.group = rng.choice(["", "", " ", "'", "," if self.decimal == "." else "."])

    def localised(self, text):
        whole, point, rest = text.partition(".")
        if self.group and len(whole) > 3:
            whole = f"{int(whole):,}".replace(",", self.group)
        return whole + (self.decimal + rest if point else "")

    def count(self, value, style):
        """Text of a count, and the number that it stands for."""
        if style == "plain":
            return self.localised(f"{value:.0f}"), float(f"{value:.0f}")
        if style == "scientific":
            text = f"{value:.3e}"
            return text.replace(".", self.decimal), float(text)
        if style == "superscript":
            mantissa, exponent = f"{value:.2e}".split("e")
            raised = str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
            return f"{mantissa.replace('.', self.decimal)}×10{raised}", float(f"{mantissa}e{exponent}")
        factor = SUFFIXES.get(style) or HEADERS.get(style) or {"bare M": 1e6, "bare B": 1e9}[style]
        digits = int(self.rng.integers(1, 4))
        text = f"{value / factor:.{digits}f}"
        if float(text) == 0:
            text = f"{value / factor:.6f}"
        return self.localised(text) + (style if style in SUFFIXES else ""), float(text) * factor

    def loss(self, value):
        digits = int(self.rng.integers(2, 6))
        text = f"{value:.{digits}f}"
        return text.replace(".", self.decimal), float(text)


def variant(seed):
    """Content of a file, its name, and the rows that are right: parameters, tokens or compute, and loss."""
    rng = np.random.default_rng(seed)
    write = Writer(rng)
    rows = int(rng.integers(4, 10))
    n = 10.0 ** np.sort(rng.uniform(7.2, 9.8, rows))
    d = n * 10.0 ** rng.uniform(0.9, 2.2, rows)
    loss = (1.7 + 300 * n**-0.33 + 400 * d**-0.29) * np.exp(rng.normal(0, 0.002, rows))
    kind = rng.choice(["n d", "n d", "n d c", "c d", "c"])
    cells, truth = {}, {}
    for letter, names, values in (("n", SIZES, n), ("d", TOKENS, d), ("c", COMPUTE, 6 * n * d)):
        if letter not in kind:
            continue
        styles = ["plain", "scientific"] + {
            "n": ["M", "B", "(M)", "[B]", "(in billions)", "bare M", "bare B"],
            "d": ["B", "M", "[B]", "(1e9)", "bare B"],
            "c": ["superscript"] * 3,
        }[letter]
        style = str(rng.choice(styles))
        written = [write.count(value, style) for value in values]
        name = str(rng.choice(names))
        if style in HEADERS:
            name = name.split(" (")[0] + f" {style}"
        cells[name] = [text for text, _ in written]
        truth[letter] = np.array([number for _, number in written])
    written = [write.loss(value) for value in loss]
    name = str(rng.choice(LOSSES))
    cells[name] = [f"**{text}**" if rng.random() < 0.1 else text for text, _ in written]
    truth["loss"] = np.array([number for _, number in written])
    for row in range(rows):
        if rng.random() < 0.08:
            cells[name][row] = str(rng.choice(["", "—", "NaN", "n/a", "(partial)", "running"]))
            truth["loss"][row] = np.nan
    for other in rng.choice(OTHERS, int(rng.integers(0, 4)), replace=False):
        pool = {"lr": ["3e-4", "0.001"], "n_layers": ["12", "24"], "width": ["d512", "d768"], "Notes": ["", "ok, fine"]}
        cells[str(other)] = [str(rng.choice(pool.get(str(other), ["a", "b c"]))) for _ in range(rows)]
    order = rng.permutation(list(cells)) if rng.random() < 0.5 else list(cells)
    table = pd.DataFrame({name: cells[name] for name in order})
    shuffled = rng.permutation(rows) if rng.random() < 0.5 else np.arange(rows)
    table = table.iloc[shuffled]
    truth = {key: value[shuffled] for key, value in truth.items()}
    return (*render(table, rng), truth)


def render(table, rng):
    """Bytes of a table in some format and encoding, and the ending of its name."""
    form = str(rng.choice(["csv", "csv", "csv", "tsv", "semicolon", "bar", "md", "jsonl", "json", "parquet"]))
    if form == "parquet":
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        return buffer.getvalue(), ".parquet"
    if form in ("json", "jsonl"):
        records = table.to_dict("records")
        text = json.dumps(records) if form == "json" else "\n".join(map(json.dumps, records))
        return text.encode(), f".{form}"
    if form == "md":
        lines = [list(table.columns), ["---"] * table.shape[1], *table.to_numpy().tolist()]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"Results so far:\n\n{body}\n\nMore soon.\n".encode(), str(rng.choice([".md", ".txt"]))
    mark = {"csv": ",", "tsv": "\t", "semicolon": ";", "bar": "|"}[form]
    text = table.to_csv(index=False, sep=mark)
    if rng.random() < 0.3:
        lines = text.splitlines()
        lines.insert(int(rng.integers(1, len(lines))), "")
        text = "\r\n".join(lines) + "\r\n\r\n"
    encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    try:
        return text.encode(encoding), ".csv"
    except UnicodeEncodeError:
        return text.encode("utf-8"), ".csv"


def outcome(seed, folder):
    """What reading a variant ends with: "right", "asked" with the sentence, or "warned"; a wrong number fails."""
    content, ending, truth = variant(seed)
    path = folder / f"runs{ending}"
    path.write_bytes(content)
    try:
        runs = bs.read(path, screen="keep")
    except bs.InputError as error:
        return "asked", str(error)
    if any(entry.severity == "warning" and entry.code == "units" for entry in runs.log):
        return "warned", ""
    kept = np.isfinite(truth["loss"])
    expected = {"loss": truth["loss"], "n_params": truth.get("n"), "n_tokens": truth.get("d"), "flops": truth.get("c")}
    if "n" not in truth and "d" in truth:
        expected["n_params"] = truth["c"] / (6 * truth["d"])
    frame = runs.frame
    assert set(runs.inputs) == ({"flops"} if set(truth) == {"c", "loss"} else {"n_params", "n_tokens"}), seed
    assert len(frame) == kept.sum(), seed
    for name in ("loss", *runs.inputs):
        np.testing.assert_allclose(
            frame[name].to_numpy(float), expected[name][kept], rtol=1e-9, err_msg=f"{seed} {name}"
        )
    return "right", ""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    return [outcome(seed, folder) for seed in range(int(os.environ.get("VARIANTS", "120")))]


def test_numbers_are_right_or_asked_for(outcomes):
    counts = pd.Series([kind for kind, _ in outcomes]).value_counts()
    print(counts.to_dict())
    # Most variants need no question; those that do have a unit or a decimal mark that nothing shows.
    assert counts["right"] > 0.6 * len(outcomes)


def test_questions_name_an_option(outcomes):
    asked = [text for kind, text in outcomes if kind == "asked"]
    assert asked and all("--" in text or "One row" in text for text in asked)
