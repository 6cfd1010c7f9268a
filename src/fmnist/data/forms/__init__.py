"""The forms that a data set comes in, a file each."""
