"""Every call detail record (CDR) out of Voicenter's Call Log API: once, in order, at the pace it allows."""

from typing import TYPE_CHECKING, Any

from voicenter_cdr._version import __version__ as __version__

if TYPE_CHECKING:
    from voicenter_cdr._public import *  # noqa: F403  # its ``__all__`` is that of the package
else:

    def __getattr__(name: str) -> Any:
        """Import the public names when the first of them is used: ``--version`` and ``--help`` need none."""
        if name == "__all__" or not name.startswith("_"):
            from voicenter_cdr import _public

            globals().update({public: getattr(_public, public) for public in ("__all__", *_public.__all__)})
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
