"""The loop without a server: the quick start's names, on the engine that the proxy runs."""
