"""Names that killed exports are written to: one for each format."""

SUFFIXES = (".jsonl", ".csv", ".parquet", ".xlsx", ".sqlite", ".duckdb", ".jsonl.gz", ".csv.gz")
NAMES = (*(f"calls{suffix}" for suffix in SUFFIXES), "calls/", "lines/")
