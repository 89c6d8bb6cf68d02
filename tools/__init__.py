"""What `make` runs: environments, layers, releases, and measurements of the handlers."""
