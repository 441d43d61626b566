"""Streams of records, pages, changes and events."""
