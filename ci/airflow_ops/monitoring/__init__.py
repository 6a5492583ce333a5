"""Alerts, dashboards, and the API of a Prometheus."""
