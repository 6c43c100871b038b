"""Columns of tables of runs: units, separators, empty and infinite cells, recipes of one seed, measured scales."""

import io

import pandas as pd
import pytest

import bayescale as bs


def test_thousands_with_points_are_logged_as_separators():
    table = pd.DataFrame({"params": ["1.700.000", "17.000.000", "170.000.000"], "loss": ["3,1", "2,9", "2,8"]})
    runs = bs.read(table)
    assert runs.frame["n_params"].tolist() == [1.7e6, 1.7e7, 1.7e8]
    texts = {entry.columns: entry.text for entry in runs.log if entry.code == "converted"}
    assert "separators (3 cells)" in texts[("params",)] and "decimal commas" not in texts[("params",)]
    assert "decimal commas (3 cells)" in texts[("loss",)]


def test_columns_without_a_value_are_named():
    table = pd.DataFrame(
        {"n_params": [None] * 3, "flops": [1e18, 1e19, 1e20], "loss": [3.0, 2.9, 2.8], "note": [""] * 3}
    )
    (entry,) = [entry for entry in bs.read(table).log if entry.code == "empty"]
    assert "'n_params', 'note'" in entry.text and entry.columns == ("n_params", "note")


def test_an_infinite_loss_beside_three_decimals_is_left_out():
    text = "params,tokens,val_loss\n3e7,6e8,4.2712\n6e7,1.2e9,3.806\n1.2e8,2.4e9,3.43\n2.4e8,4.8e9,inf\n"
    runs = bs.read(io.StringIO(text))
    assert runs.frame["loss"].tolist() == [4.2712, 3.806, 3.43]
    assert any("no finite loss" in entry.text for entry in runs.log)


def test_units_in_brackets_count_where_columns_are_named_by_hand():
    text = "Paramètres (M);Jetons (G);perte\n30;0,6;4,2712\n60;1,2;3,806\n120;2,4;3,43\n"
    columns = {"n_params": "Paramètres (M)", "n_tokens": "Jetons (G)", "loss": "perte"}
    runs = bs.read(io.StringIO(text), columns=columns)
    assert runs.frame["n_params"].tolist() == [3e7, 6e7, 1.2e8]
    assert runs.frame["n_tokens"].tolist() == [6e8, 1.2e9, 2.4e9]
    said = bs.read(io.StringIO(text), columns=columns, units={"n_tokens": "B", "n_params": "M"})
    assert said.frame["n_tokens"].tolist() == [6e8, 1.2e9, 2.4e9]


def test_recipes_of_one_seed_are_kept_where_there_is_no_scale():
    text = "recipe,seed,loss\nadam,0,3.28\nmuon,0,3.27\nmuon,1,3.271\nmuon,2,3.2705\n"
    runs = bs.read(io.StringIO(text))
    assert runs.families == ["adam", "muon"]
    (difference,) = bs.decide.noise(runs).differences
    assert difference.difference == pytest.approx(-0.0095, abs=1e-9) and difference.looks.seen == 1


def test_a_ladder_along_a_measured_column_is_not_taken_for_seeds():
    text = "gpus,wall_hours,loss\n8,0.038,3.81\n8,0.15,3.5\n8,0.6,3.2\n8,2.4,2.9\n8,9.6,2.63\n"
    with pytest.raises(bs.InputError, match="--input wall_hours"):
        bs.read(io.StringIO(text))
    assert bs.read(io.StringIO(text), inputs="wall_hours").inputs == ("wall_hours",)
    seeds = "seed,wall_hours,loss\n0,2.1,3.281\n1,2.0,3.28\n2,2.2,3.279\n3,2.3,3.278\n"
    assert bs.read(io.StringIO(seeds)).inputs == ()


def test_a_sweep_of_learning_rates_is_pointed_at_its_law():
    rows = [(n, lr, 3.0 * (n / 1e8) ** -0.1 + abs(lr - 0.003)) for n in (1e8, 3e8, 9e8) for lr in (0.001, 0.003, 0.01)]
    runs = bs.read(pd.DataFrame(rows, columns=["n_params", "lr", "loss"]))
    (entry,) = [entry for entry in runs.log if entry.code == "differs"]
    assert "--input n_params --input lr --law rate_valley" in entry.text
    assert bs.laws.get("rate_valley").inputs == ("n_params", "lr")


def test_perplexities_become_losses_where_asked():
    table = pd.DataFrame({"n_params": [1e7, 1e8, 1e9], "val_ppl": [40.0, 25.0, 18.0], "value_se": [0.4, 0.25, 0.18]})
    runs = bs.read(table)
    assert any("--derive log_perplexity" in entry.text for entry in runs.log if entry.code == "perplexity")
    logs = bs.read(table, derive="log_perplexity")
    assert logs.frame["loss"].round(6).tolist() == [3.688879, 3.218876, 2.890372]
    assert logs.frame["value_se"].round(6).tolist() == [0.01] * 3 and logs.response == "log perplexity"
    with pytest.raises(bs.InputError, match="they are not above 1 in row"):
        bs.read(table.assign(val_ppl=[40.0, 25.0, 0.9]), derive="log_perplexity")


@pytest.mark.parametrize(
    ("unit", "factor"),
    {
        "Mio.": 1e6,
        "Mrd.": 1e9,
        "Millionen": 1e6,
        "milliards": 1e9,
        "Mds": 1e9,
        "in Mio.": 1e6,
        "en millions": 1e6,
    }.items(),
)
@pytest.mark.parametrize("name", ["Modellgröße", "Parameter"])
def test_numerals_of_other_languages_are_units(name, unit, factor):
    text = f"{name} ({unit});Verlust\n11000;3,4\n22000;3,2\n44000;3,0\n"
    runs = bs.read(io.StringIO(text), columns={"n_params": f"{name} ({unit})", "loss": "Verlust"})
    assert runs.frame["n_params"].tolist() == [11000 * factor, 22000 * factor, 44000 * factor]


def test_measured_hours_are_not_offered_as_parameters():
    text = "wall_hours,loss\n0.038,3.81\n0.15,3.5\n0.6,3.2\n2.4,2.9\n9.6,2.63\n"
    with pytest.raises(bs.InputError, match="Give yours with inputs='wall_hours'"):
        bs.read(io.StringIO(text))


@pytest.mark.parametrize(
    ("name", "role", "factor"),
    [
        ("minutes", "wall_hours", 1 / 60),
        ("train_days", "wall_hours", 24.0),
        ("Wall time (h)", "wall_hours", 1.0),
        ("GPU hours", "gpu_days", 1 / 24),
        ("runtime", "wall_hours", 1.0),
        ("seconds", "seconds", 1.0),
    ],
)
def test_times_are_converted_to_the_unit_of_the_input(name, role, factor):
    table = pd.DataFrame({name: [1.0, 3.0, 10.0], "loss": [3.0, 2.9, 2.8]})
    runs = bs.read(table, columns={role: name}, inputs=[role])
    assert runs.frame[role].tolist() == pytest.approx([factor, 3.0 * factor, 10.0 * factor])
    assert any(entry.code == "converted" for entry in runs.log) == (factor != 1.0)


def test_a_column_is_found_by_its_name_without_the_prefix_of_a_tracker():
    table = pd.DataFrame(
        {
            "config.n_params": [1e7, 1e8, 1e9],
            "summary.eval/a/loss": [3.0, 2.9, 2.8],
            "summary.eval/b/loss": [2.0, 1.9, 1.8],
        }
    )
    runs = bs.read(table, loss="eval/b/loss")
    assert runs.frame["loss"].tolist() == [2.0, 1.9, 1.8]
    # A name that several prefixes may precede is not guessed.
    double = table.rename(columns={"summary.eval/a/loss": "history.eval/b/loss"})
    with pytest.raises(bs.InputError, match="There is no column 'eval/b/loss'"):
        bs.read(double, loss="eval/b/loss")


def test_a_score_by_steps_is_no_scale_of_itself():
    table = pd.DataFrame({"step": [20, 40, 60, 80, 100], "accuracy": [0.02, 0.1, 0.2, 0.4, 0.6]})
    runs = bs.read(table, score="accuracy", n_items=500)
    (entry,) = [entry for entry in runs.log if entry.code == "scale"]
    assert "To fit the score as a function of steps, give inputs='step'" in entry.text
    assert bs.read(table, score="accuracy", n_items=500, inputs="step").inputs == ("step",)
