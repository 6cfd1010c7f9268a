"""A run in a form for elsewhere, with its card."""
