"""Finds faults of this machine and installation."""
