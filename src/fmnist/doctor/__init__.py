"""What is wrong with this machine and installation."""
