"""Programs that run inside sandboxes; the host only copies them there."""
