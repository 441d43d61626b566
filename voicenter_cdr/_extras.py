"""Libraries that come with an extra of this package, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from voicenter_cdr.errors import ConfigurationError

__all__ = ["import_extra", "missing_extra"]


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional extra.

    Args:
        module: Dotted name of the module, such as ``pyarrow.parquet``.
        extra: The extra of this package that brings it, such as ``parquet``.
        purpose: The feature that needs it, as the subject of the error's sentence.

    Raises:
        ConfigurationError: The library is not installed; the hint says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise missing_extra(module.partition(".")[0], extra, purpose) from None


def missing_extra(library: str, extra: str, purpose: str) -> ConfigurationError:
    """Return the error for a library that is not installed."""
    return ConfigurationError(
        f"{purpose} needs {library}, which is not installed", hint=f"Install it: pip install 'voicenter-cdr[{extra}]'"
    )
