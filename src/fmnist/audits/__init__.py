"""Labels that look wrong, and images that are nearly the same."""
