"""The tables that the loop decides from and writes to: models, experiments, journal, commands, leases, state."""
