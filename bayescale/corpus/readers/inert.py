"""Numbers from PyTorch archives, extracted without importing, building or calling anything in them.

Such an archive is a ZIP file with one pickle and the raw numbers of its tensors. Loading a pickle could run code. Here
`pickletools` lists its instructions without executing them, and only those that make dictionaries, tuples, text and
numbers are followed. A call that the pickle requests is recorded with its name and arguments, and not made.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bayescale.errors import InputError

_CONSTANTS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "GLOBAL",
}
_FIXED = {"NONE": None, "NEWFALSE": False, "NEWTRUE": True, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_REBUILT = "torch._utils _rebuild_tensor_v2"
_EMPTY = "collections defaultdict"


class Call(NamedTuple):
    """A call that a pickle requests and that is not made.

    Attributes:
        name: Module and name of the function.
        arguments: Arguments of the call.
    """

    name: str
    arguments: tuple[Any, ...]


class _Mark:
    """A mark on the stack where the items of a tuple or dictionary begin."""


def constants(path: Path) -> Any:
    """Return the dictionaries and numbers of a PyTorch archive; a tensor of one element becomes its number.

    Args:
        path: The archive.

    Raises:
        InputError: If the file is not such an archive, or contains anything besides dictionaries, numbers, text and
            tensors of a single 32-bit number.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            [pickle] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            folder = pickle.removesuffix("data.pkl")
            followed = _followed(archive.read(pickle), path)
            return _plain(followed, lambda key: archive.read(f"{folder}data/{key}"), path)
    except (zipfile.BadZipFile, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} is not a PyTorch archive of numbers ({error}): fetch it again.") from None


def _followed(content: bytes, path: Path) -> Any:
    """Return the plain values that the instructions make; calls are recorded and not made."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for operation, argument, _ in pickletools.genops(content):
        name = operation.name
        if name in _CONSTANTS:
            stack.append(argument)
        elif name in _FIXED:
            stack.append(_FIXED[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            stack.append(_Mark())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]  # pyright: ignore[reportArgumentType]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])  # pyright: ignore[reportArgumentType]
        elif name == "TUPLE":
            stack.append(tuple(_to_mark(stack)))
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name == "BINPERSID":
            stack.append(Call("storage", stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            # A dictionary with a default is filled by the instructions that follow.
            called = stack.pop()
            stack.append({} if called == _EMPTY else Call(called, arguments))
        elif name == "SETITEMS":
            items = _to_mark(stack)
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise InputError(f"{path} holds {name}, which is not a dictionary, text or number: it is not read.")
    raise ValueError("its pickle has no end")


def _to_mark(stack: list[Any]) -> list[Any]:
    """Return the items above the last mark, and remove them and the mark from the stack."""
    items = []
    while not isinstance(top := stack.pop(), _Mark):
        items.append(top)
    return items[::-1]


def _plain(value: Any, content: Any, path: Path) -> Any:
    """Replace recorded tensors of one element by their number, in dictionaries of any depth."""
    if isinstance(value, dict):
        return {key: _plain(item, content, path) for key, item in value.items()}
    if not isinstance(value, Call):
        return value
    if value.name == _REBUILT:
        storage, start, shape, *_ = value.arguments
        _, kind, key, *_ = storage.arguments
        if kind == "torch FloatStorage" and shape == ():
            return float(np.frombuffer(content(key), "<f4")[start])
    raise InputError(f"{path} asks for a call of {value.name}, which is not made: it is not read.")
