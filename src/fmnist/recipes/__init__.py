"""Recipes: the network to train and how to train it. No Keras and no NumPy here."""
