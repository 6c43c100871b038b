"""Options of the command: bad values end in one sentence, and those without effect or of another name are refused."""

import io

import pytest
import typer
from conftest import FEW, call

import bayescale as bs
from bayescale.cli import main, misspelt
from bayescale.cli.options import told_unless_answered
from bayescale.data.log import LogEntry
from bayescale.fitting.programs import TRACES

RUNS = "flops,loss\n1e18,3.522\n3e18,3.339\n1e19,3.154\n3e19,3.000\n1e20,2.848\n3e20,2.725\n"
SEEDED = "flops,loss,seed,recipe\n1e18,3.00,0,a\n1e18,3.02,1,a\n1e18,3.10,0,b\n1e18,3.13,1,b\n"
COUNTS = "correct,attempts\n" + "".join(f"{c},20\n" for c in (0, 0, 1, 3, 20))
SWEEP = "n_params,n_tokens,loss\n" + "".join(
    f"{n},{c / 6 / n},{1.7 + 400 / n**0.34 + 410 / (c / 6 / n) ** 0.28}\n"
    for c in (1e18, 1e19, 1e20)
    for n in (1e7 * c**0.5 / 1e9, 3e7 * c**0.5 / 1e9, 1e8 * c**0.5 / 1e9)
)


def verbs():
    """Options of every verb by its name, nested ones with a space."""

    def walk(command, name):
        children = getattr(command, "commands", None)
        if children is None:
            yield name, {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("--")}
            return
        for child, below in children.items():
            yield from walk(below, f"{name} {child}".strip())

    return dict(walk(typer.main.get_command(main.app), ""))


VERBS = verbs()


NO_NUMBER = ["", "a", "nan", "inf", "1e400", "-1", "1,5", "0x10"]
POSITIVE = ["0", *NO_NUMBER]
HUGE = str(10**30)
BAD = {
    "positive": POSITIVE,
    "at least zero": NO_NUMBER,
    "items": [*POSITIVE, "0.5"],
    "probability": [*POSITIVE, "1", "1.5"],
    "above one": [*POSITIVE, "1", "0.5"],
    "whole": [*POSITIVE, "1.5", "1e12", HUGE],
    "from zero": [*NO_NUMBER, "1.5", HUGE],
    "probabilities": [*POSITIVE, "1", "0.5,", "0.5,2"],
    "attempts": [*POSITIVE, "1.5", "1,", "10,0"],
    "name": ["", "no such name", "3", "nan"],
    "point": ["", "flops", "flops=", "=1", "flops=a", "flops=0", "flops=-1", "flops=nan", "flops=inf", "nothing=1"],
    "pair": ["", "a", "a=", "=b"],
    "unit": ["", "a", "a=", "=b", "flops=x", "flops=0", "flops=-1", "flops=nan", "nothing=M"],
    "input": ["no such column"],
    "column": ["", "no such column"],
    "rate": ["", "a", "a=", "a=x", "a=0", "a=-1", "a=nan", "a=inf", "a=1:x", "a=1:-1", "a=1:nan", "nobody=1"],
    "read": ["", "absent.csv", "."],
    "write": ["", "absent/file.png", ".", "x" * 300],
    "folder": ["runs.csv", "runs.csv/below", "x" * 300],
}
"""Values that no option of a kind may have."""
FREE = {"unit of cost", "flag"}
READING = {
    "column": "pair",
    "input": "input",
    "loss": "column",
    "family": "column",
    "unit": "unit",
    "decimal": "name",
    "derive": "name",
    "score": "column",
    "chance": "at least zero",
    "ceiling": "positive",
    "chance-sd": "positive",
    "ceiling-sd": "positive",
    "n-items": "positive",
    "value": "column",
    "lower-is-better": "flag",
    "screen": "name",
    "checkpoints": "flag",
    "burn-in": "probability",
    "table": "whole",
}
SAMPLING = {"method": "name", "draws": "whole", "warmup": "from zero", "chains": "whole"}
SAMPLING["target-accept"] = "probability"
FIT = {
    "law": "name",
    "discrepancy": "name",
    "likelihood": "name",
    "design": "name",
    "prior-from": "read",
    "seed": "from zero",
    **READING,
    **SAMPLING,
}
STAKES = {"cost": "at least zero", "value": "positive", "utility": "name", "unit": "unit of cost"}
OPTIONS = {
    "read": ("read runs.csv", {"out": "write", **READING}),
    "decide": (
        "decide fit.nc --at flops=1e21 --target 2.5 --cost 1 --value 2",
        {"at": "point", "target": "positive", "pilots": "read", "batch": "whole", "report": "write", "plot": "write"}
        | {"sensitivity": "flag", "no-sensitivity": "flag", **STAKES},
    ),
    "allocate": (
        "allocate joint.nc --flops 1e21",
        {"flops": "positive", "at": "point", "served": "at least zero", "regret": "positive", "plot": "write"}
        | dict.fromkeys(("unique-tokens", "min-params", "max-params", "min-tokens", "max-tokens"), "positive"),
    ),
    "isoflop": (
        "isoflop sweep.csv",
        {"budget": "positive", "regret": "positive", "level": "probability"} | {"out": "write", "plot": "write", **FIT},
    ),
    "isoflop of a fit": ("isoflop joint.nc", {"budget": "positive", "regret": "positive", "level": "probability"}),
    "compare": (
        "compare fit.nc other.nc --at flops=1e20 --low 1e19 --high 1e21",
        {"at": "point", "axis": "name", "low": "positive", "high": "positive", "equal": "at least zero"}
        | {
            "deadline": "positive",
            "seed": "from zero",
            "discrepancy": "name",
            "likelihood": "name",
            "design": "name",
            "law": "name",
        },
    ),
    "compare by cost": (
        "compare fit.nc other.nc --cost 1 --rate fit=1e18 --rate other=1e18",
        {"at": "point", "axis": "name", "rate": "rate", "cost": "positive", "cost-unit": "unit of cost"},
    ),
    "compare of runs": ("compare recipes.csv --at flops=1e20", FIT),
    "noise": (
        "noise seeded.csv --reference 3 --within .1 --column family=recipe",
        {"bar": "positive", "reference": "positive", "within": "positive", "seeds": "whole", "level": "probability"}
        | {"most-seeds": "whole", "error": "probability"}
        | READING,
    ),
    "next-run": (
        "next-run fit.nc --at flops=1e21 --target 2.5 --cost 1 --value 2",
        {"at": "point", "candidates": "read", "target": "positive", "batch": "whole", "budget": "positive", **STAKES},
    ),
    "stop": (
        "stop fit.nc --at flops=1e21 --target 2.5 --remaining 1 --value 2",
        {"at": "point", "target": "positive", "remaining": "positive", "value": "positive", "chance": "probability"}
        | {"unit": "unit of cost"},
    ),
    "reach": (
        "reach fit.nc --target 2.5",
        {"target": "positive", "along": "input", "at": "point", "upto": "positive"},
    ),
    "power": (
        "power --fit fit.nc --at flops=1e21 --low flops=1e18 --high flops=1e20 --runs 4 --width .1",
        {"at": "point", "fit": "read", "law": "name", "constants": "name", "low": "point", "high": "point"}
        | {"runs": "whole", "seeds": "whole", "plan": "read", "width": "positive", "difference": "positive"}
        | {"target": "positive", "sure": "probability", "level": "probability", "wanted": "probability"}
        | {"simulations": "whole", "seed": "from zero"},
    ),
    "report": (
        "report fit.nc --out page.md --at flops=1e21 --target 2.5 --cost 1 --value 2 --no-sensitivity",
        {"out": "write", "at": "point", "target": "positive", "title": "unit of cost", "sensitivity": "flag"}
        | {"no-sensitivity": "flag", **STAKES},
    ),
    "pool": (
        "pool recipes.csv",
        {"pooled": "name", "shared": "name", "covariate": "name", "correlated": "flag", "out": "write", **FIT},
    ),
    "stack": (
        "stack runs.csv --law auto --law power",
        {"ratio": "above one", "largest": "whole", "concentration": "above one", "out": "write", "folder": "folder"}
        | FIT,
    ),
    "demo": ("demo", {"out": "folder", "seed": "from zero"}),
    "fit": (
        "fit runs.csv",
        {"out": "write", "folder": "folder", "plot": "write", "strict": "flag", "no-strict": "flag"} | FIT,
    ),
    "predict": (
        "predict fit.nc --at flops=1e21",
        {
            "force": "flag",
            "at": "point",
            "kind": "name",
            "levels": "probabilities",
            "target": "positive",
            "plot": "write",
        }
        | {"value-se": "at least zero", "items": "items"},
    ),
    "backtest": (
        "backtest runs.csv --ratio 10",
        {"ratio": "above one", "largest": "whole", "out": "write", "plot": "write", **FIT},
    ),
    "coverage": (
        "coverage counts.csv --k 10 --target .5",
        {"k": "attempts", "problems": "name", "items": "whole", "target": "probability", "level": "probability"}
        | {"law": "name", "column": "pair", "levels": "probabilities", "seed": "from zero", "plot": "write"}
        | {option: kind for option, kind in SAMPLING.items() if option != "method"}
        | dict.fromkeys(("unsolvable", "no-unsolvable", "scaled", "no-scaled"), "flag"),
    ),
    "laws": ("laws", {}),
    "corpus list": ("corpus list", {}),
    "corpus fetch": ("corpus fetch", {"all": "flag"}),
    "corpus show": ("corpus show cerebras_gpt", {}),
}
"""A call of each verb that would be answered, and the kind of each option."""


@pytest.fixture(scope="module")
def files(marin_post, tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    for name, text in {"runs": RUNS, "seeded": SEEDED, "sweep": SWEEP, "counts": COUNTS}.items():
        (folder / f"{name}.csv").write_text(text)
    rows = [f"{recipe},{line}" for recipe in "ab" for line in RUNS.splitlines()[1:]]
    (folder / "recipes.csv").write_text("\n".join(["family,flops,loss", *rows]))
    for name in ("fit", "other"):
        marin_post.save(folder / f"{name}.nc")
    joint = bs.fit(bs.read(folder / "sweep.csv"), "chinchilla", discrepancy=None, seed=0, settings=FEW, method="nuts")
    joint.save(folder / "joint.nc")
    return folder


def test_every_option_is_tried():
    for verb, options in VERBS.items():
        tried = {name for label, (line, kinds) in OPTIONS.items() if line.startswith(verb) for name in kinds}
        assert {o[2:] for o in options} - {"json", "help"} <= tried, verb


@pytest.mark.parametrize("label", OPTIONS)
def test_bad_values_end_with_one_sentence(label, files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    line, options = OPTIONS[label]
    before, here, wrong = sum(TRACES.values()), sorted(files.iterdir()), []
    for number, (option, kind) in enumerate(options.items()):
        # Every second value of an option, and the others of the next one: the options of a kind share a reader.
        for value in BAD.get(kind, ())[number % 2 :: 2]:
            try:
                code = call(*line.split(), f"--{option}={value}")
            except Exception as error:
                wrong.append(f"--{option}={value:.40}: {type(error).__name__}: {error!s:.100}")
                continue
            out, err = capsys.readouterr()
            told = [part for part in err.splitlines() if not part.startswith(("info: ", "warning: ", "excluded: "))]
            if code != 2:
                wrong.append(f"--{option}={value:.40}: exit code {code}")
            elif out or len(told) != 1 or len(told[0]) > 700 or not told[0].endswith((".", ")")):
                wrong.append(f"--{option}={value:.40}: no sentence: {out[:80]} {told}")
    assert not wrong, f"{len(wrong)} of {label}:\n" + "\n".join(wrong)
    assert sum(TRACES.values()) == before
    assert sorted(files.iterdir()) == here


IDLE = [
    ("decide fit.nc --at flops=1e21 --target 2.5 --utility per_nat", "--utility has no effect without --cost"),
    ("decide fit.nc --at flops=1e21 --target 2.5 --unit USD --batch 2", "--unit, --batch have no effect"),
    ("decide fit.nc --at flops=1e21 --target 2.5 --pilots pilots.csv", "--pilots has no effect"),
    ("decide fit.nc --at flops=1e21 --target 2.5 --no-sensitivity", "--no-sensitivity has no effect without --report"),
    ("report fit.nc --out page.md --cost 3", "--cost has no effect without --at"),
    ("report fit.nc --out page.md --at flops=1e21 --target 2.5 --unit USD", "--unit has no effect without --cost"),
    ("next-run fit.nc --at flops=1e21 --utility step", "--utility has no effect without --target"),
    ("next-run fit.nc --at flops=1e21 --unit USD", "unit (--unit) has no effect without cost= (--cost)"),
    ("stop fit.nc --at flops=1e21 --target 2.5 --remaining 1 --value 2 --chance .2", "--chance has no effect with"),
    ("stop fit.nc --at flops=1e21 --target 2.5 --unit USD", "--unit has no effect without --remaining"),
    ("power --fit fit.nc --at flops=1e21 --runs 4 --plan pilots.csv --width .1", "--runs has no effect without --low"),
    ("power --fit fit.nc --at flops=1e21 --plan pilots.csv --width .1 --sure .9", "--sure has no effect"),
    ("power --fit fit.nc --at flops=1e21 --plan pilots.csv --width .1 --simulations 9", "--simulations has no effect"),
    ("compare fit.nc other.nc --at flops=1e20 --deadline 1e20", "--deadline has no effect without --low and --high"),
    ("compare fit.nc other.nc --at flops=1e20 --cost 3 --cost-unit USD", "--cost, --cost-unit have no effect"),
    ("compare fit.nc other.nc --at flops=1e20 --screen keep", "--screen has no effect on a saved fit"),
    ("compare fit.nc other.nc --at flops=1e20 --law power", "--law has no effect on a saved fit"),
    ("compare seeded.csv --column family=recipe --equal .1", "--equal has no effect on runs of one scale"),
    ("compare seeded.csv --column family=recipe --at flops=1e18 --draws 9", "--at, --draws have no effect"),
    ("isoflop joint.nc --seed 1 --unit n_params=M", "--seed, --unit have no effect on a saved fit"),
    ("allocate joint.nc --flops 1e21 --at n_params=1e9", "--min-params"),
    ("fit runs.csv --method importance --warmup 9", "--warmup"),
    ("fit runs.csv --out fit.txt", "ends in .nc"),
    ("read runs.csv --out runs.parquet", "ends in .csv"),
    ("backtest runs.csv --ratio 10 --out rows.json", "ends in .csv"),
    ("predict fit.nc --at flops=1e21 --plot picture.doc", "ends in .png"),
    ("report fit.nc --out page.pdf", "ends in .html or .md"),
    ("corpus fetch sorscher --all", "--all already fetches every data set"),
    ("read runs.csv --checkpoints", "it is for a folder with one file per run"),
    ("read sweep.csv --burn-in .1", "burn_in (--burn-in)"),
    ("read sweep.csv --column foo=n_params", "--input foo"),
    ("read sweep.csv --column foo=bar", "no column 'bar'"),
    ("read seeded.csv --column recipe=family", "--column family=recipe"),
    ("read sweep.csv --column n_tokens=n_params --column flops=n_params", "given for both"),
    ("read sweep.csv --loss loss --column loss=n_params", "give two different columns"),
    ("read runs.csv --decimal ,", "because decimal=',' (--decimal ,) was given"),
]
"""Command lines with an option that would have no effect or contradicts another, and words of the message."""


@pytest.mark.parametrize(("line", "words"), IDLE)
def test_options_without_effect_are_refused(line, words, files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    (files / "pilots.csv").write_text("flops,cost\n4e20,1\n8e20,2\n")
    here = sorted(files.iterdir())
    assert call(*line.split()) == 2
    out, err = capsys.readouterr()
    told = [part for part in err.splitlines() if part.startswith("bayescale: ")]
    assert out == ""
    assert len(told) == 1
    assert words in told[0]
    assert sorted(files.iterdir()) == here


def test_a_question_without_stakes_takes_no_stakes(marin_post):
    for given in ({"utility": "per_nat"}, {"unit": "USD"}, {"batch": 2}, {"pilots": bs.read(io.StringIO(RUNS)).frame}):
        with pytest.raises(bs.InputError, match=f"{next(iter(given))} has no effect without cost="):
            bs.decide.go(marin_post, 2.5, flops=1e21, **given)


def test_functions_refuse_options_without_effect(marin_post, files):
    seeds = bs.read(files / "seeded.csv", columns={"family": "recipe"})
    fits, plans = {"run": marin_post}, bs.decide.ladders({"flops": 1e18}, {"flops": 1e20}, [4])
    for asked, words in {
        lambda: bs.decide.compare(
            seeds, equal=0.1, at={"flops": 1e18}
        ): "at, equal have no effect on runs of one scale",
        lambda: bs.decide.stop_early(fits, 2.5, remaining=1.0, value=2.0, chance=0.3, flops=1e21): "chance",
        lambda: bs.decide.stop_early(fits, 2.5, unit="USD", flops=1e21): "unit",
        lambda: bs.decide.next_run(marin_post, utility="per_nat", flops=1e21): "utility",
        lambda: bs.decide.next_run(marin_post, unit="USD", flops=1e21): "unit",
        lambda: bs.decide.go(marin_post, 2.5, value=1.0, utility=lambda y: 2.5 - y, flops=1e21): "value",
        lambda: bs.decide.compare({"a": marin_post, "b": marin_post}, at={"flops": 1e21}, unit="USD"): "unit",
        lambda: bs.decide.power(marin_post, plans, width=0.1, sure=0.8, flops=1e21): "sure",
        lambda: bs.decide.power(marin_post, plans, width=0.1, simulations=9, flops=1e21): "simulations",
    }.items():
        with pytest.raises(bs.InputError, match=words):
            asked()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fit runs.csv --noise student", "bayescale fit has no option --noise; did you mean --likelihood?"),
        ("fit runs.csv --drift=none", "did you mean --discrepancy?"),
        ("fit runs.csv --num_samples 9", "did you mean --draws?"),
        ("fit runs.csv --output x.nc", "did you mean --out?"),
        ("fit runs.csv --likelihod student", "did you mean --likelihood?"),
        ("fit runs.csv --zzz 3", "bayescale fit --help lists its options"),
        ("decide fit.nc --at flops=1e21 --goal 2", "did you mean --target?"),
        ("allocate joint.nc --budget 1e21", "did you mean --flops?"),
        (
            "corpus show cerebras_gpt --format json",
            "bayescale corpus show has no option --format; did you mean --json?",
        ),
        ("forecast fit.nc", "bayescale has no subcommand 'forecast'; did you mean predict?"),
        ("corpus dowload x", "bayescale corpus has no subcommand 'dowload'; its subcommands are fetch, list, show."),
        ("comparre a b", "did you mean compare?"),
    ],
)
def test_names_that_do_not_exist_lead_to_those_that_were_meant(line, words, files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    assert call(*line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_other_names_lead_to_options_and_verbs_that_exist():
    everywhere = set().union(*VERBS.values())
    assert set(misspelt.OPTIONS) <= everywhere
    assert set(misspelt.VERBS) <= {name.split()[0] for name in VERBS}


def test_an_option_without_effect_names_the_method_that_uses_it(files, capsys):
    assert call("fit", files / "runs.csv", "--method", "importance", "--target-accept", ".9") == 2
    said = capsys.readouterr().err
    assert "--target-accept has no effect with --method importance" in said and "--method nuts" in said


def test_a_forecast_is_told_in_words_below_its_table(marin_post, tmp_path, capsys):
    marin_post.save(tmp_path / "fit.nc")
    points = [option for scale in range(12) for option in ("--at", f"flops={10.0 ** (19 + scale / 4):g}")]
    assert call("predict", tmp_path / "fit.nc", *points, "--target", "2.6") == 0
    table, words = capsys.readouterr().out.split("\n\n")
    assert table.count("\n") == 12
    assert words.startswith("Forecast of one future run") and words.count("80 %") == 11
    assert "and 2 more points" in words and "x beyond the data]" in words
    assert "ratio: the extrapolation factor: how many times a point lies beyond" in words and "p_below_target:" in words


def test_rows_left_out_are_told_once_with_the_answer_or_before_a_refusal(capsys):
    log = [
        LogEntry("recognised", "info", "Recognised: loss."),
        LogEntry("diverged", "excluded", "row 3 diverged.", (3,)),
    ]
    with told_unless_answered(log):
        pass
    assert capsys.readouterr().err == "info: Recognised: loss.\n"
    with pytest.raises(bs.InputError), told_unless_answered(log):
        raise bs.InputError("No.")
    assert capsys.readouterr().err == "info: Recognised: loss.\nexcluded: row 3 diverged.\n"


def test_what_is_counted_or_paid_may_have_a_suffix(marin_post, tmp_path, capsys):
    fit = tmp_path / "fit.nc"
    marin_post.save(fit)
    asked = ("decide", fit, "--at", "flops=1e21", "--target", "2.6", "--json")
    assert call(*asked, "--cost", "1.2M", "--value", "3M") == 0
    short = capsys.readouterr().out
    assert call(*asked, "--cost", "1200000", "--value", "3e6") == 0
    assert short == capsys.readouterr().out and '"cost": 1200000.0' in short
    for typed, words in (
        ("0", "cost= (--cost), a positive number; found 0."),
        ("1.2Q", "--cost must be a valid number"),
    ):
        assert call(*asked, "--cost", typed, "--value", "3M") == 2
        assert words in capsys.readouterr().err


def test_the_command_alone_prints_its_help_and_no_more(capsys):
    for arguments in ((), ("corpus",)):
        assert call(*arguments) == 2
        out, err = capsys.readouterr()
        assert "Usage:" in out and err == ""


def test_a_saved_fit_is_no_table_and_more_sizes_than_there_are_cannot_be_held_out(marin_post, files, tmp_path, capsys):
    marin_post.save(tmp_path / "fit.nc")
    for verb in ("fit", "backtest", "noise"):
        options = ("--ratio", "3") if verb == "backtest" else ()
        assert call(verb, tmp_path / "fit.nc", *options) == 2
        said = capsys.readouterr().err
        assert "fit.nc is a saved fit" in said and "bayescale predict" in said
    assert call("backtest", files / "runs.csv", "--largest", "10") == 2
    assert "--largest 10" in capsys.readouterr().err
