"""Programs of the sandbox's own side: they run in the world, in a slot or in the run's child, never in the server."""
