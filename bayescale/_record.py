"""Records: frozen dataclasses that JAX accepts as arguments of compiled functions, and aliases for their arrays."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray
"""An array of either library; shapes are given in the docstring of each field."""


def static(**options: Any) -> Any:
    """Declare a field of a record as static: its value is compiled into the program instead of passed as data."""
    return dataclasses.field(metadata={"static": True}, **options)


@typing.dataclass_transform(frozen_default=True, kw_only_default=False, field_specifiers=(dataclasses.field, static))
def record[T](cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass and a JAX pytree.

    Fields are traced data unless declared with `static()`, so new numbers need no new compilation.

    Example:
        >>> @record
        ... class Line:
        ...     slope: float
        ...     name: str = static(default="line")
        >>> jax.tree.map(lambda leaf: 2 * leaf, Line(1.5))
        Line(slope=3.0, name='line')
    """
    frozen = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(frozen)  # type: ignore[arg-type]
    return jax.tree_util.register_dataclass(
        frozen,
        data_fields=[field.name for field in fields if not field.metadata.get("static")],
        meta_fields=[field.name for field in fields if field.metadata.get("static")],
    )
