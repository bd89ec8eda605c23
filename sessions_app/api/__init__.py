"""The doors of the HTTP API: parse, call one service, render."""
