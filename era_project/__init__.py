"""The product's Django project: settings, doors and the server that runs them."""

__version__ = "0.1.0"
