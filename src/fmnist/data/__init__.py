"""Where images come from, how they are read, and how they are divided."""
