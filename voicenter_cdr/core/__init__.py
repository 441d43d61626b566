"""The path of one request: planning, rate limit, HTTP, protocol, streaming."""
