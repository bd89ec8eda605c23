"""What the product costs, measured against bare interpreters in the same run."""
