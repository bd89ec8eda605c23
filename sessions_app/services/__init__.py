"""What callers may do: every door calls these, and they alone know the rules."""
