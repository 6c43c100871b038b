"""Encoding of records and tables as plain values and arrays, decoding without loss, and digests of arrays."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import laws
from bayescale._jax import on_cores
from bayescale.data.log import LogEntry
from bayescale.errors import InputError, Status
from bayescale.inference.diagnostics import Diagnostics
from bayescale.laws import priors
from bayescale.laws.law import Law
from bayescale.model.problem import PriorScale, Values

PLAIN_KINDS = "biuf"
"""NumPy kinds of arrays that files hold unchanged: booleans, integers and floats."""


# --- Records ------------------------------------------------------------------------------------------------


def encode(record: Any) -> dict[str, Any]:
    """Return the fields of a record of numbers and names as plain values, with the name of its class."""
    fields = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {"role": type(record).__name__, **{name: plain(value) for name, value in fields.items()}}


def plain(value: Any) -> Any:
    """Return a number of any library as a Python number; other values unchanged."""
    return np.asarray(value).item() if hasattr(value, "dtype") and np.ndim(value) == 0 else value


def decode(values: Mapping[str, Any], home: Any) -> Any:
    """Rebuild a record from the output of `encode`; `home` is the module with the classes that may occur."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "role"}
    return getattr(home, values["role"])(**fields)


def encode_prior(prior: Any) -> dict[str, Any]:
    """Return a prior as plain values: numbers for the package's own classes, else a text to compare when loading."""
    if getattr(priors, type(prior).__name__, None) is type(prior):
        return encode(prior)
    return {"own": repr(prior)}


def decode_prior(values: Mapping[str, Any], registered: Any) -> Any:
    """Rebuild a prior from the output of `encode_prior`.

    Args:
        values: Output of `encode_prior`.
        registered: The registered law's prior for the same constant, or None.

    Raises:
        InputError: For a prior of a class defined by the user that differs from the registered one.
    """
    if "own" not in values:
        return decode(values, priors)
    if repr(registered) != values["own"]:
        raise InputError(
            f"its prior {values['own']} has a class that is not part of bayescale; register the law with this "
            "prior first"
        )
    return registered


def law_print(law: Law) -> str:
    """Return sixteen hexadecimal digits that identify the function a law computes, whatever the names of its inputs."""
    numbered = {name: f"x{number}" for number, name in enumerate(law.inputs)}
    content = {
        "curve": fingerprint(law.function, len(law.inputs), law.constants),
        "constants": law.constants,
        "covered": law.covered,
        "scales": [(numbered[name], numbered.get(source, source)) for name, source in law.scales],
        "axes": {name: fingerprint(axis, len(law.inputs), ()) for name, axis in law.axes},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def fingerprint(function: Callable[..., Any], inputs: int, constants: tuple[str, ...]) -> str:
    """Return a hash of the function that a law computes, because laws of one name may differ, e.g. in a notebook."""
    number = jax.ShapeDtypeStruct((), np.float64)
    # In double precision, as in a fit: JAX would otherwise keep rounded versions of the law's tables for later fits.
    with on_cores():
        program = jax.make_jaxpr(function)(*[number] * inputs, **dict.fromkeys(constants, number))
    # Functions inside the program are printed with an address that differs in every process.
    text = re.sub(r" at 0x[0-9a-f]+", "", str(program))
    digest = hashlib.sha256(text.encode())
    for value in program.consts:
        digest.update(np.asarray(value).tobytes())
    return digest.hexdigest()[:16]


def registered_law(name: str, inputs: tuple[str, ...], stored: Mapping[str, Any], stamp: str | None) -> Law:
    """Return the registered law with this name, with the inputs and priors of a file.

    Args:
        name: Name of the law.
        inputs: Names of its inputs in the file, in the order of its arguments.
        stored: Priors in the file, as `encode_prior` writes them.
        stamp: `law_print` of the law when it was fitted; None where that cannot be compared.

    Raises:
        InputError: If no law is registered under that name, or a different one is.
    """
    if name not in laws.LAWS:
        raise InputError(
            f"its law {name!r} is not registered here: register it first (bayescale.register_law with the same "
            "function), then load again"
        )
    law = laws.get(name)
    if len(law.inputs) != len(inputs):
        raise InputError(f"its law {name!r} had {len(inputs)} inputs and the registered one has {len(law.inputs)}")
    law = laws.renamed(law, inputs)
    law = dataclasses.replace(law, priors={k: decode_prior(v, law.priors.get(k)) for k, v in stored.items()})
    if stamp is not None and law_print(law) != stamp:
        raise InputError(
            f"its law {name!r} differs from the law that is registered under this name now; register the law "
            "that was fitted"
        )
    return law


def encode_diagnostics(measures: Diagnostics) -> dict[str, Any]:
    """Return convergence measures as plain values."""
    values = {f.name: getattr(measures, f.name) for f in dataclasses.fields(measures)}
    arrays = {name: value.tolist() for name, value in values.items() if isinstance(value, np.ndarray) and value.ndim}
    return {**{name: plain(value) for name, value in values.items()}, **arrays, "status": measures.status.name}


def decode_diagnostics(values: Mapping[str, Any]) -> Diagnostics:
    """Rebuild convergence measures from the output of `encode_diagnostics`."""
    arrays = {name: np.array(value, float) for name, value in values.items() if isinstance(value, list)}
    return Diagnostics(**{**values, **arrays, "status": Status[values["status"]]})


def encode_values(values: Values) -> dict[str, np.ndarray]:
    """Return constrained values as arrays by name; a value that is equal in all draws is stored once."""
    # Fits of losses have no standardised log odds.
    fields = {name: value for name, value in values._asdict().items() if name != "constants" and np.size(value)}
    leaves = {**{f"constant_{name}": value for name, value in values.constants.items()}, **fields}
    found = {}
    for name, leaf in leaves.items():
        whole = np.asarray(leaf)
        first = whole[:1, :1]
        found[name] = first if np.array_equal(np.broadcast_to(first, whole.shape), whole) else whole
    return found


def decode_values(arrays: Mapping[str, np.ndarray], chains: int, draws: int) -> Values:
    """Rebuild constrained values from the output of `encode_values`."""
    leaves = {name: np.broadcast_to(leaf, (chains, draws, *leaf.shape[2:])) for name, leaf in arrays.items()}
    constants = {name.removeprefix("constant_"): leaves.pop(name) for name in arrays if name.startswith("constant_")}
    return Values(constants=constants, **leaves)


def decode_log(entries: list[dict[str, Any]]) -> tuple[LogEntry, ...]:
    """Rebuild the log of a table from plain values."""
    return tuple(LogEntry(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}) for entry in entries)


def encode_scale(scale: PriorScale) -> dict[str, Any]:
    """Return the scales of a prior as plain values."""
    return {name: np.asarray(value).tolist() for name, value in dataclasses.asdict(scale).items()}


def decode_scale(values: Mapping[str, Any]) -> PriorScale:
    """Rebuild the scales of a prior from the output of `encode_scale`."""
    arrays = {name: np.asarray(value, float) for name, value in values.items() if name not in ("inert", "center")}
    return PriorScale(inert=tuple(values["inert"]), center=values["center"], **arrays)


# --- Tables -------------------------------------------------------------------------------------------------


def encode_table(frame: pd.DataFrame) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return the columns of a table as arrays with names that any file format accepts.

    Returns:
        A description of each column (its name and type), and the arrays, named `column_0`, `column_1` and so on.
    """
    cards, arrays = [], {}
    for number, name in enumerate(frame):
        column = frame.iloc[:, number]
        kind = column.to_numpy().dtype.kind if isinstance(column.dtype, np.dtype) else ""
        card: dict[str, Any] = {"name": name, "type": str(column.dtype)}
        if kind and kind in PLAIN_KINDS:
            values = column.to_numpy()
        elif isinstance(column.dtype, (pd.DatetimeTZDtype, np.dtype)) and kind in ("M", "m", ""):
            values = column.astype("int64").to_numpy()
            card["ticks"] = True
        else:
            cells = [None if missing(cell) else plain(cell) for cell in column.astype(object)]
            values = np.array([json.dumps(cell, default=str) for cell in cells], dtype=object)
            card["text"] = True
        cards.append(card)
        arrays[f"column_{number}"] = values
    return cards, arrays


def missing(cell: Any) -> bool:
    """Return whether a cell of a table is empty."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell))


def decode_table(cards: list[dict[str, Any]], arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Rebuild a table from the output of `encode_table`."""
    columns = []
    for number, card in enumerate(cards):
        values: Any = arrays[f"column_{number}"]
        if card.get("text"):
            values = pd.Series([json.loads(cell) for cell in values], dtype=object)
            if card["type"] == "object":
                values = values.where(values.notna(), np.nan)
        columns.append(pd.Series(values).astype(card["type"]))
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    return frame.set_axis([card["name"] for card in cards], axis=1)


# --- Digests ------------------------------------------------------------------------------------------------


def digest_of(arrays: Mapping[str, Any]) -> str:
    """Return the SHA-256 of named arrays: their names, shapes, types and values."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        values = np.asarray(arrays[name])
        texts = values.dtype.kind not in PLAIN_KINDS
        # Files store booleans as bytes, and may change the byte order.
        kind = "text" if texts else values.dtype.newbyteorder("<").str
        found.update(json.dumps([name, kind, values.shape]).encode())
        if texts:
            found.update(json.dumps([as_text(cell) for cell in values.ravel().tolist()]).encode())
        else:
            found.update(np.ascontiguousarray(values.astype(kind, copy=False)).tobytes())
    return found.hexdigest()


def as_text(cell: Any) -> str:
    """Return a cell as text, also where a file holds it as bytes."""
    return cell.decode() if isinstance(cell, bytes) else str(cell)


def digest_of_attributes(attributes: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the attributes of a file, except the attribute that holds this digest."""
    plain_values = {}
    for name, value in attributes.items():
        if name != "digest" and not name.startswith("_"):
            one = np.ravel(np.asarray(value))[0] if not isinstance(value, (str, bytes)) else as_text(value)
            plain_values[name] = one if isinstance(one, str) else as_text(one) if isinstance(one, bytes) else str(one)
    return hashlib.sha256(json.dumps(plain_values, sort_keys=True).encode()).hexdigest()
