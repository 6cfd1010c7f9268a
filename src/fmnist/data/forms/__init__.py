"""The forms that a data set may have, one file each."""
