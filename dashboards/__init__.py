"""Dashboards and rules. The JSON and YAML files here are what is deployed; the Python builds the JSON.

    python -m dashboards.build

`grafana-foundation-sdk`, Grafana's own schema package, is needed for building only.
"""
