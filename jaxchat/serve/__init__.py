"""A model as a service: OpenAI's API over the engine, what guards it, and what it remembers."""
