"""Messages: options that they name exist where they are read, and arguments are named with their options."""

import ast
import re
from pathlib import Path

from test_cli_options import VERBS

import bayescale as bs

PACKAGE = Path(bs.__file__).parent
READS = {verb for verb, options in VERBS.items() if "--input" in options}
SAMPLES = {verb for verb, options in VERBS.items() if "--method" in options}
EVERYWHERE = set(VERBS)
PLACES = {
    "data/ray.py": EVERYWHERE,
    "data/": READS,
    **dict.fromkeys(
        ("model/choice.py:earlier_jobs", "model/choice.py:earlier_model", "model/choice.py:kept_prior"), SAMPLES
    ),
    "laws/catalogue/": READS,
    "laws/law.py": SAMPLES,
    "laws/responses.py": READS & SAMPLES,
    "errors.py:one_scale": READS,
    "decide/allocation.py": {"allocate"},
    "coverage/": {"coverage"},
    "pooling/": {"pool"},
    "decide/course.py": {"compare"},
    "decide/go.py": {"decide"},
    "decide/pilots.py": {"next-run"},
    "decide/stopping.py": {"stop"},
    "decide/utility.py": {"decide", "next-run", "report"},
    "decide/utility.py:as_law_describes": {"power"},
    "data/score.py:check_target": {"decide", "next-run", "report"},
    "data/value.py:value_columns": SAMPLES,
    "evaluate/backtest.py": {"backtest", "stack"},
    "evaluate/stack.py": {"stack"},
    "forecast.py:query_points": {"predict", "decide", "next-run", "stop", "report"},
    "forecast.py:measured": {"predict"},
    "score_forecast.py": {"predict"},
    "decide/reach.py": {"reach"},
    "model/likelihood.py": SAMPLES,
    "forecast.py:other_inputs": {"predict", "decide", "next-run", "stop", "report", "compare"},
    "laws/registry.py:automatic": SAMPLES,
    "decide/planning.py": {"power"},
    "decide/isoflop.py": {"isoflop"},
    "decide/noise.py": {"noise"},
    "decide/sequential.py": {"noise"},
    "decide/recipes.py": {"compare"},
}
"""Verbs on which the messages of a file can appear; those of all others can appear on every verb."""
SAID = {
    "as a score": READS,
    "read them with": READS,
    "fit with": SAMPLES,
    "; fit ": SAMPLES,
    "when fitting": SAMPLES,
    "when reading": READS,
}
"""Words before an option that say where it is."""


def messages(file):
    """Texts of a file that name options, each with the function that holds it; docstrings are left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    inside -= {id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}

    def walk(node, function):
        for child in ast.iter_child_nodes(node):
            here = child.name if isinstance(child, ast.FunctionDef) else function
            if isinstance(child, ast.JoinedStr):
                yield here, "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in child.values)
            elif isinstance(child, ast.Constant) and id(child) not in inside and isinstance(child.value, str):
                yield here, child.value
            yield from walk(child, here)

    return [(function, text) for function, text in walk(tree, "") if "--" in text]


def wanted(where, function, text, start):
    """Verbs on which an option that a text names must exist, and whether one of them is enough."""
    before = text[:start]
    verb = re.findall(r"bayescale ((?:corpus )?[a-z-]+)[^;]*$", before)
    if verb and verb[-1] in VERBS:
        return {verb[-1]}, all
    for words, known in SAID.items():
        if words in before.lower():
            return known, all
    if where.startswith("cli"):
        verb = function.replace("_", " " if function.split("_")[0] == "corpus" else "-")
        return ({verb}, all) if verb in VERBS else (EVERYWHERE, any)
    for place in (f"{where}:{function}", where, f"{where.split('/')[0]}/"):
        if place in PLACES:
            return PLACES[place], all
    return EVERYWHERE, all


def test_options_that_messages_name_exist_where_they_are_read():
    seen, wrong = 0, []
    for file in sorted(PACKAGE.rglob("*.py")):
        where = file.relative_to(PACKAGE).as_posix()
        for function, text in messages(file):
            if "<style" in text or ":root" in text or "pip install" in text:
                continue
            for found in re.finditer(r"(?<![\w-])--(?!version|help)[a-z][a-z-]*", text):
                seen += 1
                places, enough = wanted(where, function, text, found.start())
                if not enough(found[0] in VERBS[verb] for verb in places):
                    lacking = sorted(verb for verb in places if found[0] not in VERBS[verb])
                    wrong.append(f"{where} {function}: {found[0]} is not on {', '.join(lacking)}: {text[:160]}")
    assert seen > 50
    assert not wrong, "\n".join(wrong)


PYTHON_ONLY = """
    fitting/fit_chain.py posterior/chain.py decide/go.py:candidates
    pooling/metrics.py pooling/metrics_plan.py
corpus/entries.py coverage/fitting.py coverage/verifier.py
data/runs.py:thinned decide/outcomes.py:at_point decide/recipes.py:check_recipes
decide/recipes.py:compare_seeds forecast.py:query_points forecast.py:refuse_unnamed inference/nuts.py
laws/law.py:at_unit_scale laws/law.py:with_priors laws/priors.py laws/registry.py:check_declaration
model/discrepancy.py pooling/covariates.py:of_further pooling/pool.py:place pooling/pool.py:prior
model/prepare.py:make_job plot/fits.py plot/forecasts.py plot/isoflop.py plot/records.py posterior/posterior.py
decide/go.py:chosen_utility model/likelihood.py:__post_init__
""".split()
"""Files, or functions of files, whose messages name arguments that the command gives by itself or does not have."""


def refusals():
    """Place and text of every refusal, caveat and note."""
    for file in sorted(PACKAGE.rglob("*.py")):
        where = file.relative_to(PACKAGE).as_posix()
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("InputError", "Caveat", "Note"):
                    parts = [p.value for p in ast.walk(node) if isinstance(p, ast.Constant)]
                    yield where, function.name, "".join(part for part in parts if isinstance(part, str))


def test_messages_that_name_an_argument_name_the_option_too():
    named = [(f, n, text) for f, n, text in refusals() if re.search(r"(?<![-\w])[a-z_]+=", text)]
    lacking = [(f, n, text) for f, n, text in named if "--" not in text]
    assert len(named) > 30
    wrong = [
        f"{f}:{n}: {text[:200]}" for f, n, text in lacking if f not in PYTHON_ONLY and f"{f}:{n}" not in PYTHON_ONLY
    ]
    assert not wrong, "\n".join(wrong)
    # Nothing is excused for nothing.
    assert set(PYTHON_ONLY) <= {f for f, _, _ in lacking} | {f"{f}:{n}" for f, n, _ in lacking}
