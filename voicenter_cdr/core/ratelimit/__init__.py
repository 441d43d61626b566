"""The rate limit, and the scheduler that keeps it."""
