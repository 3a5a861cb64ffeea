"""jaxchat: train your own chat assistant with JAX, on a laptop or a TPU pod."""

__version__ = "0.1.0"
