"""Libraries that come with an extra: loaded when they are needed, and asked for by name where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from voicenter_cdr.errors import ConfigurationError

__all__ = ["extra"]


def extra(module: str, name: str, what: str) -> Any:
    """The module of an extra; ``what`` it is for is told where it is not installed (:class:`ConfigurationError`)."""
    try:
        return importlib.import_module(module)
    except ImportError:
        top = module.partition(".")[0]
        raise ConfigurationError(
            f"{what} needs {top}, which is not installed", hint=f"Install it: pip install 'voicenter-cdr[{name}]'"
        ) from None
