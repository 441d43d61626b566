"""Every call detail record (CDR) out of Voicenter's Call Log API: once, in order, at the pace it allows."""

__version__ = "0.1.0"
