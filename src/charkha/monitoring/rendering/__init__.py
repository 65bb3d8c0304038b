"""What others need to watch a server: rules for Prometheus, dashboards for Grafana, as plain data."""
