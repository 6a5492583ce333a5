"""Calls of services over HTTP: retries, circuit breaker, the last good answer."""
