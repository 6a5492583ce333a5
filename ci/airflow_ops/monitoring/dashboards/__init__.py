"""The Grafana dashboards, written in Python and committed as the JSON that Grafana reads."""
