"""The interop suites: what `tools/interop/run` and the Python drivers are made of. Python's standard library only."""
