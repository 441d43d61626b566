"""Limiters that share one account's budget between programs."""

from voicenter_cdr.limiters.redis import RedisLimiter
from voicenter_cdr.limiters.sqlite import SqliteLimiter

__all__ = ["RedisLimiter", "SqliteLimiter"]
