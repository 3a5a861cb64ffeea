"""What a loss is: sums and counts over a batch, divided once at the very end."""
