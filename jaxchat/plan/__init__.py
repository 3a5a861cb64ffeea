"""What a run would need and how fast it could be on machines that are not here: compiled for them, then counted."""
