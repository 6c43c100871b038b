"""Reading stores of trackers, each filled here by the tracker's client; left out where a client is not installed."""

import json
import struct
import subprocess
import sys

import pytest

import bayescale as bs
from bayescale.data.formats.trackers import log_records

RUNS = {"tiny": (2 * 10**7, 4 * 10**8), "small": (6 * 10**7, 2 * 10**9), "base": (3 * 10**8, 5 * 10**9)}


def filled(code, folder):
    """Run a program that fills a store; clients start threads and warn, which is theirs."""
    program = f"import json, sys\nfolder, runs = sys.argv[1], json.loads(sys.argv[2])\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), json.dumps(RUNS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def check(runs):
    assert runs.inputs == ("n_params", "n_tokens")
    found = runs.frame.set_index("run")
    for name, (params, tokens) in RUNS.items():
        assert (found.loc[name, "n_params"], found.loc[name, "n_tokens"]) == (params, tokens)
        assert found.loc[name, "loss"] == pytest.approx(3.0 - 1e-9 * params)


@pytest.mark.slow
def test_offline_runs_of_wandb(tmp_path):
    pytest.importorskip("wandb")
    code = """
import wandb
for name, (params, tokens) in runs.items():
    settings = wandb.Settings(mode="offline", silent=True, console="off", x_disable_stats=True)
    config = {"model": {"num_params": params}, "data": {"tokens": tokens}, "optim": {"lr": 3e-4}}
    run = wandb.init(project="p", name=name, config=config, dir=folder, settings=settings)
    for step in range(1, 4):
        run.log({"val/loss": 3.0 + 1.0 / step - 1.0 / 3 - 1e-9 * params, "train/loss": 3.5})
    run.finish(exit_code=0)
"""
    filled(code, tmp_path)
    runs = bs.read(tmp_path)
    check(runs)
    assert set(runs.frame["status"]) == {"finished"} and list(runs.frame["optim.lr"]) == [3e-4] * 3
    assert len(bs.read(tmp_path, checkpoints=True, screen="keep")) == 9
    one = next(tmp_path.rglob("*.wandb"))
    content = one.read_bytes()
    one.write_bytes(content[:5])
    with pytest.raises(bs.InputError, match=r"damaged|no run"):
        bs.read(one)


def test_a_log_of_chunks_is_joined_over_blocks():
    def chunk(part, content):
        return struct.pack("<IHB", 0, len(content), part) + content

    # A record that crosses the end of a block, and one behind the six bytes that no header fits into.
    first = b"a" * (32768 - 7 - 7)
    content = bytes(7) + chunk(2, first) + chunk(4, b"b" * (32768 - 7 - 6)) + bytes(6) + chunk(1, b"c")
    assert list(log_records(content)) == [first + b"b" * (32768 - 13), b"c"]
    with pytest.raises(ValueError, match="damaged"):
        list(log_records(content[:-1]))


@pytest.mark.slow
@pytest.mark.parametrize("store", ["database", "folder"])
def test_stores_of_mlflow(store, tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    code = """
import os
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri=PLACE)
experiment = client.create_experiment("ladder")
for name, (params, tokens) in runs.items():
    run = client.create_run(experiment, run_name=name).info.run_id
    client.log_param(run, "model.num_params", params)
    client.log_param(run, "train_tokens", tokens)
    for step in range(3):
        client.log_metric(run, "val_loss", 3.2 - 0.1 * step - 1e-9 * params, step=step)
    client.set_terminated(run)
"""
    uri = f"sqlite:///{tmp_path}/mlflow.db" if store == "database" else f"file://{tmp_path}/mlruns"
    filled(code.replace("PLACE", repr(uri)), tmp_path)
    runs = bs.read(tmp_path / ("mlflow.db" if store == "database" else "mlruns"))
    check(runs)
    assert set(runs.frame["status"]) == {"finished"}


def test_a_database_of_something_else_is_refused(tmp_path):
    import contextlib
    import sqlite3

    pytest.importorskip("mlflow")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("create table runs (id integer)")
        database.commit()
    with pytest.raises(bs.InputError, match="not one of MLflow"):
        bs.read(tmp_path / "other.db")


def test_event_files_of_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    code = """
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
for name, (params, tokens) in runs.items():
    writer = EventFileWriter(f"{folder}/{params // 10**6}M-{tokens / 1e9:g}BT")
    for step in range(1, 5):
        value = Summary.Value(tag="eval/loss", simple_value=3.4 - 0.1 * step)
        writer.add_event(Event(step=step, wall_time=step, summary=Summary(value=[value])))
    writer.close()
"""
    filled(code, tmp_path)
    runs = bs.read(tmp_path)
    assert sorted(zip(runs.frame["n_params"], runs.frame["n_tokens"], strict=True)) == sorted(RUNS.values())
    # Numbers of 32 bits come back with the digits that were written.
    assert set(runs.frame["loss"]) == {3.0} and set(runs.frame["step"]) == {4}


def test_a_missing_client_is_named(tmp_path, monkeypatch):
    import importlib.util

    (tmp_path / "run-1.wandb").write_bytes(b":W&B")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bs.InputError, match=r"pip install 'bayescale\[wandb\]'"):
        bs.read(tmp_path)
