"""Reading: tables in the shapes in which teams have their runs are understood with one option at most."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from conftest import call

import bayescale as bs


def law(n, d):
    """Losses that tables of these tests hold."""
    return 1.7 + 290.0 * np.asarray(n, float) ** -0.33 + 400.0 * np.asarray(d, float) ** -0.29


def read(text, **options):
    """Read text as if it were piped in."""
    return bs.read(io.StringIO(text), **options)


def told(runs, code):
    """Sentences of the log with a code."""
    return [entry.text for entry in runs.log if entry.code == code]


def column(runs, name):
    return runs.frame[name].to_numpy(float)


def test_isoflop_sweep_with_labels_and_missing_cells():
    rows = [("4e18", "h640", "3.0e9", "3.2"), ("4e18", "h896", "1.5e9", "3.1"), ("9e18", "h640", "6e9", "—")]
    text = "compute_budget,hidden,train_tokens,eval/loss\n" + "\n".join(map(",".join, rows))
    runs = read(text)
    assert runs.inputs == ("n_params", "n_tokens")
    np.testing.assert_allclose(column(runs, "n_params"), 4e18 / 6 / np.array([3.0e9, 1.5e9]))
    assert list(runs.frame["hidden"]) == ["h640", "h896"]
    assert "n_params = flops / (6 n_tokens)" in told(runs, "derived")[0]
    assert [entry.rows for entry in runs.log if entry.severity == "excluded"] == [(4,)]
    assert read(text, inputs="flops").inputs == ("flops",)


def test_sweep_with_broken_and_running_cells():
    budgets, tokens = (2e18, 5e18, 1.3e19), np.geomspace(8e8, 8e9, 5)
    rows = [[c, d, round(float(law(c / 6 / d, d)), 4), "done"] for c in budgets for d in tokens]
    rows[3][2], rows[7][3] = 10.825, "running"
    runs = read("\n".join(["budget,tokens,eval/macro_loss,status", *(",".join(map(str, row)) for row in rows)]))
    left = {entry.code: entry.rows for entry in runs.log if entry.severity == "excluded"}
    assert left == {"diverged": (5,), "unfinished": (9,)} and len(runs) == 13
    assert "50,257" in told(runs, "diverged")[0]


def test_suffixes_and_a_score_beside_the_loss():
    runs = read(
        "layers,size,data,val_bpb,ARC\n8,95M,0.9B,.91,.21\n9,0.12B,1.1B,.89,.22\n", columns={"n_tokens": "data"}
    )
    assert column(runs, "n_params").tolist() == [95e6, 0.12e9]
    assert column(runs, "n_tokens").tolist() == [0.9e9, 1.1e9]
    assert list(runs.frame["ARC"]) == [0.21, 0.22]


def test_table_pasted_from_a_thread(monkeypatch, capsys):
    text = (
        "Some results, more to come:\n\n> | Compute (FLOPs) | Params | Tokens | **Val loss** | Comment |\n"
        "> |---:|:--|---|---|---|\n> | 2.50×10¹⁸ | 105M | 3.97e+09 | **3.412** | |\n"
        "> | 1.2*10^19 | `0.24B` | 8,300,000,000 | 3.201 | |\n"
        "> | 10²⁰ | 700M | 2.4e10 | (partial) | |\n\nThoughts?\n"
    )
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert call("read", "-", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert [row["flops"] for row in body["rows"]] == [2.5e18, 1.2e19]
    assert [row["n_tokens"] for row in body["rows"]] == [3.97e9, 8.3e9]
    assert [row["loss"] for row in body["rows"]] == [3.412, 3.201]
    assert {entry["severity"] for entry in body["log"]} == {"info", "excluded"}


def test_columns_that_are_kept_lose_their_emphasis_only():
    text = (
        "| Model | Hardware | Params | Tokens | Loss |\n|---|---|---|---|---|\n| tiny | a*b | 45M | 1B | 3.9 |\n"
        "| **XL** | `H100` | 1.3B | 26B | 2.7 |\n| [base](https://a.b/c) | *H200* | 350M | 7B | 3.1 |\n"
    )
    frame = read(text).frame
    assert frame["Model"].tolist() == ["tiny", "XL", "base"] and frame["Hardware"].tolist() == ["a*b", "H100", "H200"]


def test_chart_with_one_column_a_run():
    steps, runs = np.arange(0, 40, 2), ("70m", "160m")
    frame = pd.DataFrame({"Step": steps})
    for place, run in enumerate(runs):
        values = [f"{0.9 - 0.01 * step - 0.1 * place}" if step % 4 == 0 or place == 0 else "" for step in steps]
        for ending in ("", "__MIN", "__MAX"):
            frame[f"{run} - eval/error{ending}"] = values
    found = read(frame.to_csv(index=False))
    assert (found.inputs, found.families) == (("step",), list(runs))
    assert found.frame["step"].min() > 0 and "baseline" in told(found, "baseline")[0]
    second = found.frame[found.frame["family"] == "160m"]
    np.testing.assert_allclose(second["loss"].astype(float), 0.8 - 0.01 * second["step"].astype(float))


def test_chart_of_several_metrics_asks_for_one():
    text = "Step,a - val/loss,a - train/loss\n1,3.0,3.1\n2,2.9,3.0\n"
    with pytest.raises(bs.InputError, match=r"2 metrics: val/loss, train/loss.*--loss val/loss"):
        read(text)
    assert column(read(text, loss="train/loss"), "loss").tolist() == [3.1, 3.0]


def test_table_of_runs_of_a_tracker():
    head = "Name,State,Created,Runtime,arch.num_params,data.train_tokens,optim.lr,_step,train/loss,val/loss"
    rows = [
        f"r{i},finished,2030-01-01,5{i},{10**7 * (i + 1)},{10**9 * (i + 1)},3e-4,100,3.1,3.{9 - i}" for i in range(4)
    ]
    rows[2] = rows[2].replace("3.7", "NaN")
    runs = read("\n".join([head, *rows]))
    assert list(runs.frame["run"]) == ["r0", "r1", "r3"] and set(runs.frame["status"]) == {"finished"}
    assert column(runs, "train_loss").tolist() == [3.1] * 3
    assert list(runs.frame["optim.lr"]) == [3e-4] * 3
    assert not told(runs, "differs")
    states = ["finished", "crashed", "running", "failed"]
    mixed = [row.replace("finished", state) for row, state in zip(rows, states, strict=True)]
    others = read("\n".join([head, *mixed, *(row.replace("r", "s", 1) for row in rows)]))
    assert list(others.frame["run"]) == ["r0", "s0", "s1", "s3"]


def test_one_cell_is_written_in_the_singular():
    runs = read("params,tokens,loss\n**88M**,0.8B,3.1\n1.2e8,1.1e9,3.0\n2e8,2e9,2.9\n")
    told = " ".join(entry.text for entry in runs.log)
    assert "(1 cell)" in told and "(1 cells)" not in told


def test_titles_above_a_header_are_left_out(tmp_path):
    text = "Sweep of May\n\nparams;tokens;loss\n50M;1B;3.5\n90M;2B;3.2\n"
    assert column(read(text), "loss").tolist() == [3.5, 3.2] and told(read(text), "title")
    sheet = pd.DataFrame([["Sweep of May", None, None], ["params", "tokens", "loss"], [5e7, 1e9, 3.5], [9e7, 2e9, 3.2]])
    sheet.to_excel(tmp_path / "sweep.xlsx", index=False, header=False)
    assert column(bs.read(tmp_path / "sweep.xlsx"), "loss").tolist() == [3.5, 3.2]


def test_tokens_that_were_seen_go_before_those_planned():
    text = "params,config.train_tokens,tokens_seen,loss\n5e7,1e9,9.9e8,3.5\n9e7,2e9,1.98e9,3.2\n"
    runs = read(text)
    assert column(runs, "n_tokens").tolist() == [9.9e8, 1.98e9] and "tokens trained on" in told(runs, "recognised")[1]


@pytest.mark.parametrize(
    "name", ["ln loss", "log10_loss", "excess_loss", "predicted loss", "loss_delta", "z_loss", "loss_scale"]
)
def test_other_things_than_the_loss_are_not_taken_for_it(name):
    with pytest.raises(bs.InputError, match="A column 'loss'"):
        read(f"params,tokens,{name}\n5e7,1e9,1.2\n9e7,2e9,1.1\n")


@pytest.mark.parametrize("name", ["log10(C)", "log_flops", "tokens (log10)", "lr", "tokens_per_second", "batch_tokens"])
def test_other_things_than_a_scale_are_not_taken_for_one(name):
    with pytest.raises(bs.InputError, match="No column was recognised as a scale input"):
        read(f"{name},zeta,loss\n18.2,1.5,3.2\n19.4,2.5,3.1\n")


@pytest.mark.parametrize(
    "heads", [("seed 0", "seed 1"), ("val_loss_seed0", "val_loss_seed1"), ("Loss (seed=0)", "Loss (seed=1)")]
)
def test_one_column_a_seed_is_one_row_a_seed(heads):
    runs = read(f"params,tokens,{heads[0]},{heads[1]}\n5e7,1e9,3.5,3.51\n9e7,2e9,3.2,\n")
    assert column(runs, "loss").tolist() == [3.5, 3.51, 3.2] and column(runs, "seed").tolist() == [0, 1, 0]


def test_results_that_differ_between_seeds_are_no_recipes():
    rows = [
        f"{n},{20 * n},{seed},3.{seed}{i},.{31 + 7 * i + seed}1"
        for i, n in enumerate((10**8, 3 * 10**8))
        for seed in (0, 1, 2)
    ]
    assert not told(read("\n".join(["n_params,n_tokens,seed,loss,ARC", *rows])), "differs")


def test_one_scale_has_no_input_and_no_law():
    rows = [f"{recipe},{seed},{3.3 + 0.01 * seed:.4f}" for recipe in ("old", "muon") for seed in range(3)]
    runs = read("\n".join(["recipe,seed,val_loss", *rows]))
    assert (runs.inputs, runs.families) == ((), ["old", "muon"])
    with pytest.raises(bs.InputError, match=r"have one scale.*bayescale compare"):
        bs.fit(runs.split()[0], seed=0)


def test_seeds_by_step_keep_steps_and_all_digits():
    rows = [f"{seed},{step},{3.28001 - step * 1e-6:.6f}" for seed in range(3) for step in (900, 950, 1000)]
    text = "\n".join(["seed,step,val_loss", *rows])
    runs = read(text)
    assert runs.inputs == () and column(runs, "step").tolist() == [900, 950, 1000] * 3
    assert column(runs, "loss")[0] == 3.27911
    assert read(text, inputs="step").inputs == ("step",)


def test_counts_are_kept_and_offered_as_an_error_rate():
    text = "params,tokens,val_loss,n_correct,n_questions\n50M,1B,3.5,30,100\n90M,2B,3.2,40,100\n"
    runs = read(text)
    assert column(runs, "loss").tolist() == [3.5, 3.2] and column(runs, "correct").tolist() == [30, 40]
    assert "--derive error_rate" in told(runs, "counts")[0]
    derived = read(text, derive="error_rate")
    np.testing.assert_allclose(column(derived, "loss"), [0.7, 0.6])
    np.testing.assert_allclose(column(derived, "value_se"), np.sqrt([0.3 * 0.7 / 100, 0.4 * 0.6 / 100]), rtol=0.02)


def test_counts_by_problem_have_no_scale():
    text = "task,trials,passed\n" + "\n".join(f"{i},50,{5 * i}" for i in range(6))
    with pytest.raises(bs.InputError, match="--derive error_rate"):
        read(text)
    runs = read(text, derive="error_rate")
    assert runs.inputs == () and column(runs, "attempts").tolist() == [50] * 6


def test_ladders_of_recipes_with_seeds_are_families():
    text = "recipe,model,params,tokens,seed,val_loss\nA,50M,5e7,1e9,0,3.5\nA,90M,9e7,2e9,0,3.3\n"
    text += "B,50M,5e7,1e9,0,3.6\nB,90M,9e7,2e9,1,3.2\n"
    runs = read(text)
    assert runs.families == ["A", "B"] and [len(part) for part in runs.split()] == [2, 2]
    assert not told(runs, "differs")


def test_training_loss_is_kept_beside_the_validation_loss():
    runs = read("n_params,n_tokens,train_loss,val_loss\n1e7,2e8,4.9,5.0\n3e7,6e8,4.2,4.4\n")
    assert column(runs, "loss").tolist() == [5.0, 4.4] and column(runs, "train_loss").tolist() == [4.9, 4.2]
    only = read("n_params,n_tokens,train_loss\n1e7,2e8,4.9\n3e7,6e8,4.2\n")
    assert column(only, "loss").tolist() == [4.9, 4.2] and "a training loss" in told(only, "recognised")[1]


def test_scores_are_said_to_rise():
    text = "params,auroc\n20M,.61\n70M,.68\n300M,.66\n"
    assert "a score" in told(read(text), "score")[0]
    derived = read(text, derive="error_rate")
    np.testing.assert_allclose(column(derived, "loss"), [0.39, 0.32, 0.34])
    assert not told(derived, "score")


def test_active_and_total_parameters():
    text = "active_params,total_params,tokens,flops,loss\n300M,2.4B,6e9,1.08e19,2.9\n600M,5B,1.2e10,4.32e19,2.7\n"
    runs = read(text)
    assert column(runs, "n_params").tolist() == [3e8, 6e8] and "total_params" in told(runs, "recognised")[1]
    assert column(read(text, columns={"n_params": "total_params"}), "n_params").tolist() == [2.4e9, 5e9]


def test_tokens_follow_from_a_ratio():
    text = "params,tokens/param,loss\n40M,20x,3.4\n80M,40x,3.1\n"
    assert column(read(text.replace("tokens/param", "tokens_per_param")), "n_tokens").tolist() == [8e8, 3.2e9]
    by_compute = read("flops,tokens_per_param,loss\n1e18,20,3.4\n1e19,40,3.1\n")
    assert by_compute.inputs == ("flops",) and column(by_compute, "tokens_per_param").tolist() == [20, 40]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (
            "Parameter;Token;Verlust\n50.000.000;1.250.000.000;3,4711\n70.000.000;1.750.000.000;3,3902\n",
            [3.4711, 3.3902],
        ),
        ("Parameter;Token;Verlust\n50 000 000;1 250 000 000;3,47\n70 000 000;1 750 000 000;3,39\n", [3.47, 3.39]),
        (
            "Parameter\tToken\tVerlust\n50'000'000\t1'250'000'000\t3.471\n70'000'000\t1'750'000'000\t3.390\n",
            [3.471, 3.39],
        ),
        (
            'Parameter,Token,Verlust\n"50,000,000","1,250,000,000",3.471\n"70,000,000","1,750,000,000",3.390\n',
            [3.471, 3.39],
        ),
    ],
)
def test_locales(text, values):
    with pytest.raises(bs.InputError, match="--column loss=Verlust"):
        read(text)
    runs = read(text, loss="Verlust")
    assert column(runs, "loss").tolist() == values
    assert column(runs, "n_params").tolist() == [5e7, 7e7] and column(runs, "n_tokens").tolist() == [1.25e9, 1.75e9]


def test_one_mark_that_may_be_two_things_is_asked_about():
    text = "params;tokens;loss\n50M;1B;3,120\n70M;2B;3,004\n"
    with pytest.raises(bs.InputError, match=r"'3,120'.*--decimal"):
        read(text)
    assert column(read(text, decimal=","), "loss").tolist() == [3.12, 3.004]
    # Tokens prove the comma, which would make losses of thousands.
    with pytest.raises(bs.InputError, match=r"loss has the value 3120.*--decimal"):
        read("params;tokens;loss\n50M;1.000.000.000;3.120\n70M;2.000.000.000;3.004\n")


@pytest.mark.parametrize("ending", ["parquet", "xlsx"])
def test_columnar_and_spreadsheet_files(ending, tmp_path):
    frame = pd.DataFrame({"N": [1e8, 1e8, 2e8], "D": [1e9, 3e9, 2e9], "loss": [3.3, 3.1, 3.0]})
    path = tmp_path / f"grid.{ending}"
    frame.to_parquet(path) if ending == "parquet" else frame.to_excel(path, index=False)
    runs = bs.read(path)
    assert column(runs, "n_tokens").tolist() == [1e9, 3e9, 2e9]
    pd.testing.assert_frame_equal(runs.frame, bs.read(frame, name="grid").frame)


def test_setting_that_differs_between_equal_runs_is_named():
    text = "n_params,n_tokens,lr,loss\n" + "\n".join(
        f"{n},{20 * n},{lr},3.1" for n in (10**8, 3e8) for lr in (1e-4, 1e-3)
    )
    assert "'lr'" in told(read(text), "differs")[0] and "--column family=lr" in told(read(text), "differs")[0]
    assert read(text, family="lr").families == ["0.0001", "0.001"]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("params,tokens,loss\n7,140,2.1\n13,300,2.0\n", "--unit n_params="),
        ("params,tokens,loss\n7e9,140,2.1\n13e9,300,2.0\n", "--unit n_tokens="),
        ("params,tokens,flops,loss\n7e6,140e9,5.88e21,2.1\n13e6,260e9,2e22,2.0\n", "--unit n_params=M"),
        ("compute,loss\n5.8,2.1\n20,2.0\n", "--unit flops="),
    ],
)
def test_wrong_units_are_refused_with_the_option(text, fix):
    with pytest.raises(bs.InputError, match=fix):
        read(text)


def test_a_budget_in_money_is_no_compute():
    runs = read("params,tokens,budget,loss\n5e7,1e9,1200,3.5\n9e7,2e9,3000,3.2\n")
    assert list(runs.frame["budget"]) == [1200, 3000] and "too small for compute" in told(runs, "units")[0]
    with pytest.raises(bs.InputError, match="--unit flops="):
        read("params,tokens,budget,loss\n5e7,1e9,1200,3.5\n9e7,2e9,3000,3.2\n", inputs="flops")


def test_a_header_that_says_a_wrong_unit_is_refused():
    with pytest.raises(bs.InputError, match=r"n_tokens per n_params.*--unit n_tokens"):
        read("params,tokens (B),loss\n5e7,1e9,3.5\n9e7,2e9,3.2\n")


def test_names_of_sizes_are_no_families():
    assert read("variant,params,tokens,loss\nsmall,5e7,1e9,3.5\nsmall,5e7,1e9,3.4\nlarge,9e7,2e9,3.2\n").families == [
        "runs"
    ]


def test_units_of_losses_are_powers_or_nothing():
    assert column(read("params,tokens,loss (B)\n5e7,1e9,3.5\n9e7,2e9,3.2\n"), "loss").tolist() == [3.5, 3.2]
    runs = read("params,tokens,loss (1e-3)\n5e7,1e9,3500\n9e7,2e9,3200\n")
    np.testing.assert_allclose(column(runs, "loss"), [3.5, 3.2])
    with pytest.raises(bs.InputError, match="'loss'"):
        read("N,D,L\n5e7,1e9,12\n9e7,2e9,24\n")


def test_units_can_be_said():
    text = "params,tokens,loss\n7,140,2.1\n13,300,2.0\n"
    runs = read(text, units={"n_params": "B", "tokens": 1e9})
    assert column(runs, "n_params").tolist() == [7e9, 13e9] and column(runs, "n_tokens").tolist() == [140e9, 300e9]
    headed = read(text.replace("params", "params (B)").replace("tokens", "tokens [billions]"))
    assert column(headed, "n_params").tolist() == [7e9, 13e9] and told(headed, "converted")


def test_compute_that_disagrees_is_said_with_its_factor():
    runs = read("params,tokens,flops,loss\n1e8,2e9,3.6e18,3.1\n2e8,4e9,1.44e19,2.9\n")
    assert "flops is 3 times 6 N D" in told(runs, "units")[0]


def test_compute_is_derived_when_it_is_asked_for():
    assert column(read("params,tokens,loss\n1e8,2e9,3.1\n2e8,4e9,2.9\n", inputs="flops"), "flops").tolist() == [
        1.2e18,
        4.8e18,
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252", "utf-16-le"])
def test_encodings(encoding, tmp_path):
    path = tmp_path / "läufe.csv"
    path.write_bytes("Größe;params;tokens;loss\nklein;50M;1B;3.5\ngroß;90M;2B;3.2\n".encode(encoding))
    runs = bs.read(path)
    assert list(runs.frame["Größe"]) == ["klein", "groß"] and column(runs, "loss").tolist() == [3.5, 3.2]


@pytest.mark.parametrize("name", ["runs.pkl", "weights.pt", "runs.csv"])
def test_pickles_are_refused(name, tmp_path):
    pd.DataFrame({"loss": [1.0]}).to_pickle(tmp_path / name)
    with pytest.raises(bs.InputError, match="is a pickle"):
        bs.read(tmp_path / name)


def test_the_command_writes_the_table_that_a_fit_uses(tmp_path, capsys):
    (tmp_path / "runs.csv").write_text("Params (M),Tokens,Loss\n50,1B,3.5\n90,2B,3.2\n")
    assert call("read", tmp_path / "runs.csv", "--out", tmp_path / "clean.csv") == 0
    out, err = capsys.readouterr()
    assert "info: Recognised: n_tokens = 'Tokens'" in err and "n_params" in out
    clean = bs.read(tmp_path / "clean.csv", family="family")
    assert column(clean, "n_params").tolist() == [50e6, 90e6] and " = " not in told(clean, "recognised")[0]
    assert call("read", tmp_path / "runs.csv", "--column", "loss=Tokens", "--decimal", ";") == 2
    assert "--decimal" in capsys.readouterr().err


def test_slips_in_options_are_told():
    text = "params,tokens,loss\n1e8,2e9,3.1\n2e8,4e9,2.9\n"
    slips = [
        ({"decimal": "x"}, "must be '.' or ','"),
        ({"derive": "accuracy"}, "must be one of error_rate"),
        ({"screen": "yes"}, "must be .exclude. or .keep."),
        ({"units": {"n_params": "furlong"}}, "K, M, B, T"),
        ({"units": {"size": "M"}}, "There is no column"),
        ({"columns": {"loss": "los"}}, "Did you mean 'loss'"),
        ({"inputs": ["lr"]}, "no column 'lr'"),
        ({"inputs": ["tokens", "n_tokens"]}, "twice"),
        ({"derive": "error_rate"}, "needs columns correct"),
    ]
    for options, words in slips:
        with pytest.raises(bs.InputError, match=words):
            read(text, **options)
    with pytest.raises(bs.InputError, match="found int"):
        bs.read(3)


LONG = [f"{10.0 ** (18 + i / 4):.4g},{3.5 * 0.95**i:.4f}" for i in range(12)]


@pytest.mark.parametrize("cell", ["#REF!", "#DIV/0!", "#VALUE!", "ERR", "about 2.5", "2.5?"])
def test_a_cell_that_is_no_number_costs_its_row(cell):
    lines = [*LONG]
    lines[3] = f"{lines[3].partition(',')[0]},{cell}"
    runs = read("flops,val_loss\n" + "\n".join(lines))
    (entry,) = [entry for entry in runs.log if entry.code == "unreadable"]
    # The header is row 1, so the fourth run is in row 5.
    assert len(runs) == 11 and entry.rows == (5,)
    assert entry.text == f"Column 'val_loss', row 5: {cell!r} is not a number: left out."


def test_a_cell_of_an_input_that_is_no_number_costs_its_row():
    runs = read("flops,loss\n" + "\n".join([*LONG[:4], "#REF!,2.9", *LONG[4:]]))
    assert len(runs) == 12 and runs.inputs == ("flops",)
    assert "Column 'flops', row 6: '#REF!'" in told(runs, "unreadable")[0]


@pytest.mark.parametrize("cell", ["#N/A", "n/a", "-"])
def test_a_missing_value_is_quoted(cell):
    runs = read("flops,loss\n" + "\n".join([*LONG[:4], f"1e19,{cell}", *LONG[4:]]))
    assert f"row 6 has no loss (column 'loss' holds {cell!r})" in told(runs, "missing_loss")[0]
    runs = read("flops,loss\n" + "\n".join([*LONG[:4], "1e19,", *LONG[4:]]))
    assert "row 6 has no loss:" in told(runs, "missing_loss")[0]


def test_a_column_that_is_mostly_unreadable_is_refused():
    with pytest.raises(bs.InputError, match=r"rows 2, 3, 4, 5, 6 and 1 more hold '2\.5\?'"):
        read("flops,loss\n" + "\n".join([f"1e{15 + i},2.5?" for i in range(6)] + LONG[:6]))


def test_rows_are_numbered_as_a_spreadsheet_numbers_them():
    runs = read("# a sweep\n\nflops,loss\n1e17,3.6\n\n1e16,oops\n" + "\n".join(LONG))
    assert [entry.rows for entry in runs.log if entry.code == "unreadable"] == [(6,)]


def test_what_is_recognised_is_said_under_its_own_name_too():
    runs = read("flops,seed,loss\n1e18,0,3.5\n1e18,1,3.4\n1e19,0,3.1\n1e19,1,3.2\n")
    (line,) = told(runs, "recognised")
    assert all(name in line for name in ("flops", "seed", "loss"))
    assert runs.frame["seed"].dtype.kind == "i" and "0.0" not in str(runs.frame["seed"].tolist())


def test_a_score_is_warned_of_once():
    rising = "\n".join(f"1e{i},{0.3 + 0.03 * i:.2f}" for i in range(7, 17))
    assert len(told(read(f"n_params,accuracy\n{rising}\n"), "score")) == 1


def test_a_unit_that_families_lack_is_asked_for_once():
    rows = "\n".join(f"{family},{size},{3 - size / 1e4}" for family in "abc" for size in (70, 160, 410))
    with pytest.raises(bs.InputError) as found:
        read(f"family,n_params,loss\n{rows}\n")
    assert str(found.value).count("--unit n_params=M") == 1


def test_runs_of_other_lengths_at_equal_inputs_are_said():
    frame = pd.DataFrame({"n_params": [1e8, 1e8, 4e8, 4e8], "_step": [1e4, 4e4] * 2, "loss": [3.2, 3.0, 2.9, 2.7]})
    for table in (frame, frame.assign(run=["a", "b", "c", "d"])):
        (entry,) = [entry for entry in bs.read(table).log if entry.code == "differs"]
        assert entry.severity == "warning"
        assert "--input n_params --input step" in entry.text
        assert len(bs.read(table, inputs=("n_params", "step"))) == 4
    tokens = frame.assign(n_tokens=frame["_step"] * 1e6)
    assert not [entry for entry in bs.read(tokens).log if entry.code == "differs"]


def test_a_loss_without_numbers_and_an_array_are_refused():
    with pytest.raises(bs.InputError, match="'loss' has no number in any row"):
        bs.read(pd.DataFrame({"flops": [1e18, 1e19], "loss": [np.nan, np.nan]}))
    with pytest.raises(bs.InputError, match="expected; found ndarray"):
        bs.read(np.ones((3, 2)))
