"""Trains a recipe on data into a run folder."""
