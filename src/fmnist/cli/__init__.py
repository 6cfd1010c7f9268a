"""The command line: `main` is its table of contents."""
