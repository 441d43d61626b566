"""One of several processes that share a budget: fetches as fast as it may until a time, and prints how often."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta

from voicenter_cdr import CdrClient, CdrQuery, RateLimit
from voicenter_cdr.core.ratelimit.policy import Limiter
from voicenter_cdr.limiters import RedisLimiter, SqliteLimiter

LIMIT = RateLimit(requests=10, period=4.0, grace=0.3)
START = datetime(2026, 7, 1, tzinfo=UTC)


def limiter(place: str) -> Limiter:
    if place.startswith("redis://"):
        return RedisLimiter(place, account="one", limit=LIMIT)
    return SqliteLimiter(place, account="one", limit=LIMIT)


async def main(url: str, place: str, until: float) -> int:
    count = 0
    async with CdrClient(code="sandbox-code", base_url=url, limiter=limiter(place), rate_limit=LIMIT) as client:
        while time.time() < until:
            await client.fetch(CdrQuery(START, START + timedelta(minutes=1)))
            count += 1
    return count


if __name__ == "__main__":
    sys.stdout.write(str(asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))))
