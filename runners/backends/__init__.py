"""Ways to confine a program; each is a module behind the Protocol in base."""
