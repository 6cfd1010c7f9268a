"""What a run scores, and what two runs differ in."""
