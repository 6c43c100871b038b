"""JSON: one object per line, an array of objects, or an object of columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bayescale.data.formats.table import Table, from_records
from bayescale.errors import InputError


def read_json(text: str, name: str, label: str) -> Table:
    """Read JSON lines or a JSON document; nested keys are joined with dots.

    Raises:
        InputError: For text that is not JSON, or that holds no rows.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    records = lines_of(text, label) if whole is None else records_of(whole, label)
    if not records:
        raise InputError(f"{label} has no rows; expected one JSON object a training run.")
    table = from_records(records, name)
    if not len(table.frame.columns):
        raise InputError(f"{label} has only empty objects; expected one JSON object a training run.")
    return table


def lines_of(text: str, label: str) -> list[Mapping[str, Any]]:
    """Read one object per line."""
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "too deeply nested")
            raise InputError(f"{label} is not JSON: line {number}: {reason}.") from None
        if not isinstance(record, Mapping):
            raise InputError(f"{label}: line {number} is not a JSON object; expected one object per training run.")
        records.append(record)
    return records


def records_of(whole: Any, label: str) -> list[Mapping[str, Any]]:
    """Return the rows of a JSON document."""
    if isinstance(whole, list):
        wrong = next((i for i, record in enumerate(whole, 1) if not isinstance(record, Mapping)), None)
        if wrong is not None:
            raise InputError(f"{label}: entry {wrong} is not a JSON object; expected one object per training run.")
        return whole
    if not isinstance(whole, Mapping):
        raise InputError(f"{label} has no JSON objects; expected one object per training run.")
    lists = {key: value for key, value in whole.items() if isinstance(value, list) and value}
    of_objects = [value for value in lists.values() if all(isinstance(item, Mapping) for item in value)]
    if len(of_objects) == 1:
        return of_objects[0]
    if lists and len(lists) == len(whole) and len({len(value) for value in lists.values()}) == 1:
        return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    if whole and all(isinstance(value, Mapping) for value in whole.values()) and len(whole) > 1:
        inner = list(whole.values())
        if len({tuple(value) for value in inner}) == 1 and set(inner[0]) != {"0"}:
            keys = set(map(str, inner[0]))
            # {"loss": {"0": 3.1, "1": 2.9}} is by column; {"run-a": {"loss": 3.1}} is by run.
            if all(key.isdigit() for key in keys):
                return [{c: value[k] for c, value in whole.items()} for k in inner[0]]
            return [{"run": key, **value} for key, value in whole.items()]
    return [whole]
