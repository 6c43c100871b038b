"""Readers on small files of the published shapes, written here: no corpus and no network."""

import io
import math
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pandas as pd
import pytest

from bayescale.corpus import readers
from bayescale.corpus.readers import inert
from bayescale.errors import InputError

ATARI, NETHACK = "experiment_data/atari", "experiment_data/nethack"


def written(folder, tables):
    """Files by upstream path: a table becomes CSV, bytes and text stay as they are."""
    files = {}
    for number, (path, content) in enumerate(tables.items()):
        files[path] = folder / f"{number}"
        if isinstance(content, pd.DataFrame):
            content.to_csv(files[path], index=False)
        else:
            files[path].write_bytes(content if isinstance(content, bytes) else content.encode())
    return files


# --- Archives of PyTorch ------------------------------------------------------------------------------------


class Scalar:
    """Stands for a tensor of one 32-bit number."""

    def __init__(self, value, shape=()):
        self.value, self.shape = value, shape


@pytest.fixture
def archive(monkeypatch):
    """Write archives as PyTorch writes them, without PyTorch."""
    for module, name in (("torch._utils", "_rebuild_tensor_v2"), ("torch", "FloatStorage")):
        stand_in = types.ModuleType(module)

        def function():
            raise AssertionError("called")

        function.__module__, function.__qualname__, function.__name__ = module, name, name
        setattr(stand_in, name, function)
        monkeypatch.setitem(sys.modules, module, stand_in)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return obj if isinstance(obj, tuple) and obj[:1] == ("storage",) else None

        def reducer_override(self, obj):
            if not isinstance(obj, Scalar):
                return NotImplemented
            storages.append(struct.pack("<f", obj.value))
            kind = sys.modules["torch"].FloatStorage
            storage = ("storage", kind, str(len(storages) - 1), "cpu", 1)
            return sys.modules["torch._utils"]._rebuild_tensor_v2, (storage, 0, obj.shape, (), False, ())

    storages = []

    def write(value):
        storages.clear()
        pickled, whole = io.BytesIO(), io.BytesIO()
        Pickler(pickled, protocol=2).dump(value)
        with zipfile.ZipFile(whole, "w") as file:
            file.writestr("name/data.pkl", pickled.getvalue())
            for key, content in enumerate(storages):
                file.writestr(f"name/data/{key}", content)
        return whole.getvalue()

    return write


def test_archives_give_their_numbers(archive, tmp_path):
    value = {"1e13": {5: Scalar(0.5), 70_000: Scalar(1.25)}, "x": {"y": 1.5, "z": (1, (2,), 2**40), "w": None}}
    path = tmp_path / "one.tar"
    path.write_bytes(archive(value))
    expected = {"1e13": {5: 0.5, 70_000: 1.25}, "x": value["x"]}
    assert inert.constants(path) == expected


def test_nothing_in_an_archive_is_called(archive, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "one.tar"
    path.write_bytes(archive({"eval_loss": Trap()}))
    with pytest.raises(InputError, match=r"mkdir, which is not made"):
        inert.constants(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("value", [Scalar(1.0, shape=(1,)), {"a": [1, 2]}, {"a": {1, 2}}])
def test_what_is_no_dictionary_of_numbers_is_refused(archive, tmp_path, value):
    path = tmp_path / "one.tar"
    path.write_bytes(archive(value))
    with pytest.raises(InputError, match="it is not read"):
        inert.constants(path)


@pytest.mark.parametrize("damage", [lambda content: b"no archive", lambda content: content[: len(content) // 2]])
def test_damaged_archives_are_one_sentence(archive, tmp_path, damage):
    path = tmp_path / "one.tar"
    path.write_bytes(damage(archive({"a": 1})))
    with pytest.raises(InputError, match="fetch it again"):
        inert.constants(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("name/data.pkl", b"\x80\x02}q\x00")
    with pytest.raises(InputError, match="fetch it again"):
        inert.constants(path)


# --- Readers ------------------------------------------------------------------------------------------------


def test_il_games(archive, tmp_path):
    measured = {"eval_loss": 0.7, "eval_se": 0.001, "params": 1000, "samples": 4096}
    files = {
        f"{NETHACK}/llama_iso_flop/abc/eval_loss_overlap_0_model_2e14.tar": archive(measured | {"eval_loss": 4.9}),
        f"{NETHACK}/llama_iso_flop/abc/eval_loss_overlap_0_model_1e14.tar": archive(measured),
        f"{NETHACK}/llama_iso_flop/abc/eval_returns_model_1e14.txt": "1.0\n2.0\n6.0\n",
        f"{NETHACK}/llama_partial_obs/def/eval_loss_overlap_0_model_5.0.tar": archive(measured),
        f"{ATARI}/eval_loss/eval_loss_Pong.tar": archive({"1e13": {50: Scalar(2.5), 60: Scalar(3.0)}}),
        f"{ATARI}/flop_params_to_samples/flop_params_to_samples_Pong.tar": archive({"1e13": {60: 8192}}),
    }
    rows = readers.il_games(written(tmp_path, files))
    assert list(rows["run"]) == [
        "llama_iso_flop/abc/1e14",
        "llama_iso_flop/abc/1e14",
        "llama_iso_flop/abc/2e14",
        "llama_partial_obs/def/5.0",
        "atari/Pong/C1e13/N50",
        "atari/Pong/C1e13/N60",
    ]
    assert list(rows["metric"]) == ["bc_eval_loss", "mean_return", *["bc_eval_loss"] * 4]
    np.testing.assert_allclose(rows["value"], [0.7, 3.0, 4.9, 0.7, 2.5, 3.0])
    np.testing.assert_allclose(rows["value_se"], [0.001, math.sqrt(7 / 3), 0.001, 0.001, np.nan, np.nan])
    np.testing.assert_allclose(rows["flops"], [1e14, 1e14, 2e14, np.nan, 1e13, 1e13])
    np.testing.assert_allclose(rows["n_samples"], [4096, 4096, 4096, 4096, np.nan, 8192])
    # ln 121 = 4.796 of NetHack, ln 18 = 2.890 of Atari.
    assert list(rows["flag"].notna()) == [False, False, True, False, False, True]
    assert list(rows["flag"].dropna().str.extract(r"ln (\d+)", expand=False)) == ["121", "18"]


def test_farseer_flags_a_run_that_is_there_twice(tmp_path):
    pytest.importorskip("pyarrow")
    files = {}
    for split, sizes in (("train", [1e8, 1e8, 2e8]), ("test", [1e9])):
        table = pd.DataFrame({"group": "all_data", "N": sizes, "D": 3e9, "loss": 1 / np.log10(sizes)})
        path = f"benchmark/dataset/farseer_scaling_law/{split}-00000-of-00001.parquet"
        files[path] = tmp_path / split
        table.to_parquet(files[path])
    rows = readers.farseer(files)
    assert list(rows["run"]) == [
        "N100000000-D3000000000",
        "N100000000-D3000000000#2",
        "N200000000-D3000000000",
        "N1000000000-D3000000000",
    ]
    assert list(rows["flag"].notna()) == [False, True, False, False]
    assert list(rows["upstream_split"]) == ["train", "train", "train", "test"]
    assert rows["flops"].iloc[3] == 1.8e19


def test_openclip_scaling(tmp_path):
    first, second = "small.pt", "large.pt"
    scores = pd.DataFrame(
        {
            "name": [first, first, second, "openai", "openai"],
            "arch": ["S", "S", "L", "L", "S"],
            "samples_seen": [3e9, 3e9, 6e9, 1e10, 1e10],
            "gmacs": [2.0, 2.0, 5.0, 5.0, 2.0],
            "upstream_dataset": ["LAION-80M", "LAION-80M", "LAION-2B", "CLIP-WIT", "CLIP-WIT"],
            "downstream_dataset": ["imagenet1k", "flickr30k", "imagenet1k", "imagenet1k", "imagenet1k"],
            "acc1": [0.5, np.nan, 0.6, 0.7, 0.2],
            "acc5": 0.9,
            "mean_per_class_recall": [0.4, np.nan, np.nan, np.nan, np.nan],
            "image_retrieval_recall@5": [np.nan, 0.3, np.nan, np.nan, np.nan],
            "text_retrieval_recall@5": [np.nan, 0.2, np.nan, np.nan, np.nan],
        }
    )
    models = {"name": [first, second], "arch": ["S", "L"], "data": ["80M", "2B"], "lr": [1e-3, 5e-4], "epochs": [3, 2]}
    along = {"name": [second, first, second], "epoch": [2, 1, 1], "imagenet-zeroshot-val-top1": [0.55, 0.1, 0.3]}
    files = {
        "arch_info.csv": pd.DataFrame({"model": ["S", "L"], "mparams": [60.25, 400.0]}),
        "trained_models_info.csv": pd.DataFrame(models),
        "zeroshot_results.csv": scores,
        "imagenet_zeroshot_learning_curves.csv": pd.DataFrame(along),
    }
    rows = readers.openclip_scaling(written(tmp_path, files))
    assert list(rows["metric"]) == [
        "imagenet1k|acc1",
        "imagenet1k|mean_per_class_recall",
        "flickr30k|image_retrieval_recall@5",
        "flickr30k|text_retrieval_recall@5",
        *["imagenet1k|acc1"] * 2,
        *["imagenet1k_curve|acc1"] * 3,
    ]
    np.testing.assert_allclose(rows["value"], [0.5, 0.4, 0.3, 0.2, 0.6, 0.7, 0.3, 0.55, 0.1])
    np.testing.assert_allclose(rows["n_samples"].iloc[[0, 4, 5, 6, 7, 8]], [3e9, 6e9, 1e10, 3e9, 6e9, 1e9])
    assert list(rows["n_params"].iloc[[0, 4]]) == [60_250_000, 400_000_000]
    assert rows["flops"].iloc[0] == 6 * 2e9 * 3e9
    # OpenAI's two models share one name; the first is kept, flagged, and has no learning rate that is known.
    assert list(rows["flag"].notna()) == [False] * 5 + [True] + [False] * 3
    assert rows["family"].iloc[5] == "openclip_reference"
    assert list(rows["lr"].isna()) == [False] * 5 + [True] + [False] * 3
    assert list(rows["dataset"].iloc[6:]) == ["LAION-2B", "LAION-2B", "LAION-80M"]


def test_dclm(tmp_path):
    names = ["a-lr=0p003-wd=1-seed=7_heavy.json", "b.json", "c-lr=0p01-seed=8.json"]
    scores = [*readers.models._DCLM_QUESTIONS, *(f"perplexity.{task}" for task in readers.models._DCLM_LOSSES)]
    table = pd.DataFrame(
        {
            "Model JSON": names,
            "Dataset": ["x", "x", "y"],
            "model": "open_lm",
            "params": [400_000_000, 7_000_000_000, 400_000_000],
            "tokens": [8_000_000_000, 4_000_000_000_000, 8_000_000_000],
            "Core": [0.3, np.nan, 0.1],
            "Extended": [0.2, 0.4, 0.1],
            "creation_date": "today",
            "model_uuid": ["u1", "u2", "u3"],
            "eval_metrics.perplexity": [2.5, np.nan, 9.0],
            **dict.fromkeys(scores, np.nan),
        }
    ).assign(hellaswag=[0.5, 0.25, 0.6], piqa=[0.7, 0.8, np.nan], **{"perplexity.mmlu": [1.5, np.nan, np.nan]})
    rows = readers.dclm(written(tmp_path, {"assets/DCLM_model_database.csv": table}))
    assert list(rows["metric"]) == [
        *("Core", "Extended", "hellaswag", "piqa", "openlm_val_loss", "ppl_mmlu"),
        *("Extended", "hellaswag", "piqa"),
        *("Core", "Extended", "hellaswag", "openlm_val_loss"),
    ]
    assert list(rows["lower_is_better"].iloc[:6]) == [0, 0, 0, 0, 1, 1]
    # One run is at chance, another's loss is above 5.
    assert rows.groupby("run", sort=False)["flag"].count().tolist() == [0, 3, 4]
    first = rows.groupby("run", sort=False).first()
    assert first["lr"].tolist() == pytest.approx([0.003, np.nan, 0.01], nan_ok=True)
    assert first["seed"].tolist() == pytest.approx([7, np.nan, 8], nan_ok=True)
    # More than a 64-bit integer holds.
    assert first["flops"].tolist() == pytest.approx([1.92e19, 1.68e23, 1.92e19])
    assert rows["n_items"].iloc[:6].tolist() == pytest.approx(
        [np.nan, np.nan, 10042, 1838, np.nan, np.nan], nan_ok=True
    )


def test_rl_value_scaling(tmp_path):
    folder = "scripts/experiments/saved_fits"
    averages = pd.DataFrame({"utd": [2, 5], "critic_params": [100, 300], "time": [1e5, 9e4], "time_std": [np.nan, 2e3]})
    averages["env_name"] = np.nan
    tasks = pd.DataFrame({"env_name": ["walk"], "utd": [4.0], "critic_width": [64], "critic_params": [200]})
    tasks = tasks.assign(time_to_threshold=5e4, time_to_threshold_std=1.5e3)
    files = {
        f"{folder}/dmc_last_threshold_250522.csv": averages,
        f"{folder}/dog_humanoid_last_threshold_250522.csv": averages.iloc[:1],
        f"{folder}/simba_250823.csv": tasks,
    }
    rows = readers.rl_value_scaling(written(tmp_path, files))
    assert list(rows["run"]) == [
        "simbav2|walk|utd4|N200",
        "bro_dmc|average|utd2|N100",
        "bro_dmc|average|utd5|N300",
        "bro_dog_humanoid|average|utd2|N100",
    ]
    assert list(rows["value"]) == [5e4, 1e5, 9e4, 1e5]
    np.testing.assert_allclose(rows["value_se"], [1.5e3, np.nan, 2e3, np.nan])
    np.testing.assert_allclose(rows["flops"], [4e7, 2e7, 1.35e8, 2e7])
    np.testing.assert_allclose(rows["width"], [64, np.nan, np.nan, np.nan])
