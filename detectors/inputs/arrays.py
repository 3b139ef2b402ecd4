"""Checks of the arrays and data frames that people pass: features, labels, times and entities."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats, Ints

SECOND = 1_000_000  # µs


def as_features(X: ArrayLike, n_features: int | None = None) -> Floats:
    """
    A feature matrix as C-contiguous float64, missing values as NaN; an array of that form is returned as it is.

    Raises
    ------
    DetectorError
        It holds something that is not a number, is not 2-D, or has another number of columns than at `fit`.
    """
    try:
        frame = hasattr(X, "columns") and hasattr(
            X, "to_numpy"
        )  # only so are pandas' own types of missing values read
        numbers = X.to_numpy(dtype=np.float64, na_value=np.nan) if frame else X  # type: ignore[union-attr]
        rows: Floats = np.require(numbers, dtype=np.float64, requirements="C")
    except (TypeError, ValueError) as error:
        raise DetectorError(
            f"X must hold numbers only{_columns_of_other_types(X)}: turn text, categories and dates into numbers first"
        ) from error
    if rows.ndim != 2:
        raise DetectorError(f"X must have the shape (n_samples, n_features), got {rows.shape}")
    if n_features is not None and rows.shape[1] != n_features:
        raise DetectorError(f"fitted on {n_features} features, got {rows.shape[1]}: pass the same columns")
    return rows


def as_partial_labels(y: ArrayLike, n_rows: int) -> Floats:
    """
    Labels as float64, (n_rows,): 1 fraud, 0 genuine, NaN for a row without a label.

    Raises
    ------
    DetectorError
        There is another number of labels than of rows, or another value.
    """
    try:
        labels = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DetectorError(f"y must be {_LABELS}") from error
    _check_length("y", labels.shape, n_rows)
    wrong = ~(np.isnan(labels) | np.isin(labels, (0.0, 1.0)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DetectorError(f"y must be {_LABELS}, got {labels[row]:g} in row {row}")
    return labels


def as_times(time: ArrayLike, n_rows: int, name: str) -> Ints:
    """
    Times in µs, (n_rows,): datetimes since 1970 in UTC, numbers as seconds since an origin of their own.

    Raises
    ------
    DetectorError
        There is another number of times than of rows, one is missing, or they are neither datetimes nor numbers.
    """
    values = np.asarray(time)
    _check_length(name, values.shape, n_rows)
    if values.dtype.kind in "OU":
        values = _parsed(values, name)
    if values.dtype.kind not in "Mmiuf":
        raise DetectorError(f"{name} must be datetimes, or numbers of seconds, got {values.dtype}")
    missing = np.isnat(values) if values.dtype.kind in "Mm" else ~np.isfinite(values)
    if missing.any():
        raise DetectorError(f"{name} is missing in row {int(np.argmax(missing))}: leave such rows out")
    if values.dtype.kind in "Mm":
        return values.astype(f"{values.dtype.kind}8[us]").astype(np.int64)
    return np.round(values.astype(np.float64) * SECOND).astype(np.int64)


def as_codes(entities: ArrayLike, n_rows: int) -> Ints:
    """
    Codes of entities from 0, (n_rows,), of numbers or text; a row without an entity is one of its own.

    Raises
    ------
    DetectorError
        There is another number of entities than of rows.
    """
    import pandas as pd

    values = np.asarray(entities)
    _check_length("entities", values.shape, n_rows)
    codes = pd.factorize(values)[0].astype(np.int64)
    return np.where(codes < 0, codes.max(initial=0) + 1 + np.arange(n_rows), codes)


def as_code_columns(entities: Any, n_rows: int) -> list[Ints]:
    """
    Codes of one or several kinds of entity: one column (n_rows,), or a sequence or data frame of them.

    Raises
    ------
    DetectorError
        A column has another number of entities than there are rows.
    """
    if hasattr(entities, "columns"):
        return [as_codes(entities[name], n_rows) for name in entities.columns]
    columns = list(entities)
    is_one = bool(columns) and all(np.ndim(each) == 0 for each in columns)
    return [as_codes(each, n_rows) for each in ([entities] if is_one else columns)]


def column_names(X: ArrayLike) -> tuple[str, ...] | None:
    """The names of a data frame's columns, None for anything without names."""
    names = getattr(X, "columns", None)
    return None if names is None else tuple(str(name) for name in names)


_LABELS = "1 for fraud, 0 for genuine or NaN for unlabelled in every row"


def _parsed(values: NDArray[Any], name: str) -> NDArray[Any]:
    import pandas as pd

    try:
        return pd.to_datetime(values, utc=True).tz_localize(None).to_numpy()
    except (TypeError, ValueError) as error:
        raise DetectorError(f"{name} must be datetimes, or numbers of seconds: {error}") from error


def _check_length(name: str, shape: tuple[int, ...], n_rows: int) -> None:
    if shape != (n_rows,):
        raise DetectorError(f"{name} has shape {shape}, the {n_rows:,} rows of X need ({n_rows},)")


def _columns_of_other_types(X: ArrayLike) -> str:
    dtypes = getattr(X, "dtypes", None)  # of a data frame
    names = (
        [str(name) for name, dtype in dtypes.items() if dtype.kind not in "biuf"]
        if dtypes is not None
        else []
    )
    return f", and these columns do not: {', '.join(names)}" if names else ""
