"""Alerts, dashboards, and a live Prometheus."""
