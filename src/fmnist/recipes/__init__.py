"""What is trained, and how: no Keras and no NumPy here."""
