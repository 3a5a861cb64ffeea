"""From logits to text: how a token is chosen, the loop that chooses many, and the conversation on a terminal."""
