"""Searches over the fields of a recipe."""
