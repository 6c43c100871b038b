"""Stores of trackers, read with their own clients: offline Weights and Biases, MLflow, TensorBoard event files."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sqlite3
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayescale.data.formats.table import Table, flattened, from_records
from bayescale.errors import InputError

CLIENTS = {"wandb": "wandb", "mlflow": "mlflow", "tensorboard": "tensorboard"}
"""Package that each store needs, by the optional dependency (extra) that installs it."""
BLOCK, CHUNK = 32768, struct.Struct("<IHB")
"""Size of a block of an offline run's log, and the head of a chunk: checksum, length, and continuation flag."""
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def kind(path: Path) -> str | None:
    """Return which tracker wrote a file or folder, or None."""
    if path.is_file():
        if path.suffix == ".wandb":
            return "wandb"
        if ".tfevents." in path.name:
            return "tensorboard"
        with path.open("rb") as file:
            return "mlflow" if file.read(16).startswith(b"SQLite format 3") else None
    if next(path.rglob("*.wandb"), None):
        return "wandb"
    if next(path.rglob("*.tfevents.*"), None):
        return "tensorboard"
    return "mlflow" if (path / "mlflow.db").exists() or next(path.glob("*/meta.yaml"), None) else None


def runs_of(path: Path, store: str) -> dict[str, pd.DataFrame]:
    """Return the rows of each run of a store of curves, by the run's name; settings are repeated in every row.

    Raises:
        InputError: Without the client, or for a damaged store.
    """
    need(store, path)
    found: dict[str, pd.DataFrame] = {}
    read = offline_run if store == "wandb" else event_folder
    for source in [path] if path.is_file() else sources(path, store):
        name, frame = read(source, path)
        if len(frame):
            number = sum(other == name or other.startswith(f"{name} #") for other in found)
            found[f"{name} #{number + 1}" if number else name] = frame
    if not found:
        raise InputError(f"{path} has no run with a logged value; expected runs that logged a loss.")
    return found


def need(store: str, path: Path) -> None:
    """Refuse a store whose client is not installed."""
    if importlib.util.find_spec(CLIENTS[store]) is None:
        raise InputError(f"{path} is a store of {store}, which needs its client: pip install 'bayescale[{store}]'.")


def sources(path: Path, store: str) -> list[Path]:
    """Return the files of offline runs, or the folders with event files, each once and in order."""
    if store == "wandb":
        return sorted({file.resolve() for file in path.rglob("*.wandb")})
    return sorted({file.parent for file in path.rglob("*.tfevents.*")})


def offline_run(path: Path, root: Path) -> tuple[str, pd.DataFrame]:
    """Read one offline run of Weights and Biases: its history, with settings, summary and state in every row."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportMissingImports]

    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    name, state = path.stem.removeprefix("run-"), "running"

    def values(items: Any) -> Iterator[tuple[str, Any]]:
        for item in items:
            keys = list(item.nested_key) or [item.key]
            yield ".".join(keys), json.loads(item.value_json)

    try:
        for content in log_records(path.read_bytes()):
            record = Record.FromString(content)
            which = record.WhichOneof("record_type")
            if which == "run":
                name = record.run.display_name or record.run.run_id or name
                config |= dict(values(record.run.config.update))
            elif which == "config":
                config |= dict(values(record.config.update))
            elif which == "history":
                rows.append(dict(values(record.history.item)))
            elif which == "summary":
                summary |= dict(values(record.summary.update))
            elif which == "exit":
                state = "finished" if record.exit.exit_code == 0 else "crashed"
    except Exception as error:  # a truncated record causes one of several errors of the client
        if not rows and not summary:
            raise InputError(
                f"{path} cannot be read as an offline run ({type(error).__name__}); it is damaged."
            ) from None
        # The last record of a killed process is truncated; earlier ones are valid.
        state = "crashed"
    if not (config or rows or summary):
        return name, pd.DataFrame()
    settings = {key: value for key, value in flattened(config).items() if not key.startswith("_wandb")}
    flat = [flattened(row) for row in rows] or [{}]
    last = {key: value for key, value in flattened(summary).items() if not any(key in row for row in flat)}
    inner = {key: value for key, value in last.items() if not key.startswith("_wandb")}
    return name, from_records([{**settings, **inner, **row, "State": state} for row in flat], name).frame


def log_records(content: bytes) -> Iterator[bytes]:
    """Iterate over the records of a log made of chunks; the 7-byte header of the file is skipped."""
    offset, parts = 7, []
    while offset + CHUNK.size <= len(content):
        left = BLOCK - offset % BLOCK
        if left < CHUNK.size:
            offset += left
            continue
        _, length, part = CHUNK.unpack_from(content, offset)
        chunk = content[offset + CHUNK.size : offset + CHUNK.size + length]
        offset += CHUNK.size + length
        if part not in (FULL, FIRST, MIDDLE, LAST) or len(chunk) < length:
            raise ValueError("a chunk is damaged")
        parts = [chunk] if part in (FULL, FIRST) else [*parts, chunk]
        if part in (FULL, LAST):
            yield b"".join(parts)


def event_folder(path: Path, root: Path) -> tuple[str, pd.DataFrame]:
    """Read the scalars of one run of TensorBoard: one row per step."""
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )
    from tensorboard.util.tensor_util import make_ndarray  # pyright: ignore[reportMissingImports]

    try:
        events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        tags = events.Tags()
        rows: dict[int, dict[str, float]] = {}
        for tag in tags["scalars"]:
            for event in events.Scalars(tag):
                rows.setdefault(event.step, {})[tag] = short(event.value)
        for tag in tags["tensors"]:
            for event in events.Tensors(tag):
                value = make_ndarray(event.tensor_proto)
                if value.ndim == 0 and np.issubdtype(value.dtype, np.number):
                    rows.setdefault(event.step, {})[tag] = short(float(value))
    except Exception as error:  # the client raises errors of files and of protocol buffers
        raise InputError(f"{path} cannot be read as event files ({type(error).__name__}); they are damaged.") from None
    name = path.name if path == root or path.is_file() else str(path.relative_to(root))
    frame = from_records([{"step": step, **rows[step]} for step in sorted(rows)], name).frame
    return name, frame


def short(value: float) -> float:
    """Return a 32-bit number with only the digits that 32 bits determine."""
    return float(str(np.float32(value)))


def read_mlflow(path: Path) -> Table:
    """Read the runs of an MLflow store: parameters and last metrics, one row per run.

    Raises:
        InputError: Without MLflow, for a database of another program, or for a store without runs.
    """
    need("mlflow", path)
    file = path if path.is_file() else path / "mlflow.db"
    if file.exists():
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            tables = {row[0] for row in database.execute("select name from sqlite_master where type = 'table'")}
        if not {"runs", "metrics", "params"} <= tables:
            raise InputError(f"{file} is a database, but not one of MLflow; export the runs as CSV.")
    uri = f"sqlite:///{file.resolve()}" if file.exists() else path.resolve().as_uri()
    # By default the client refuses stores in folders and prints warnings about future versions.
    before = os.environ.get("MLFLOW_ALLOW_FILE_STORE")
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records = mlflow_records(uri)
    except InputError:
        raise
    except Exception as error:  # errors of the client and of its database share no base class
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path} cannot be read as a store of MLflow: {type(error).__name__}: {reason}.") from None
    finally:
        if before is None:
            del os.environ["MLFLOW_ALLOW_FILE_STORE"]
        else:
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = before
    if not records:
        raise InputError(f"{path} is a store of MLflow without runs.")
    return from_records(records, path.resolve().stem)


def mlflow_records(uri: str) -> list[dict[str, Any]]:
    """Return parameters, last metrics, state and name of every run of a store."""
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    client = MlflowClient(tracking_uri=uri)
    names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    runs, token = [], None
    while True:
        page = client.search_runs(list(names), max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    runs.sort(key=lambda run: run.info.start_time)
    many = len({run.info.experiment_id for run in runs}) > 1
    return [
        {
            "run_name": run.info.run_name,
            "status": run.info.status.lower(),
            **({"experiment": names[run.info.experiment_id]} if many else {}),
            **run.data.params,
            **{key: value for key, value in run.data.metrics.items() if key not in run.data.params},
        }
        for run in runs
    ]
