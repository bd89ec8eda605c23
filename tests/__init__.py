"""The tests: unit, integration, security, acceptance."""
