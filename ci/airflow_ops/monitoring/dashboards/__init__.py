"""Grafana's dashboards of an environment, written here and committed as the JSON that Grafana reads."""
