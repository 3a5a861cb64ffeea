"""A run: what a config file builds, and what is made of it, a plan or a folder that chats, evaluates and exports.

Config files take their names from here; what they build is read by `planned` (planned.py) and `train` (training.py).
"""

from __future__ import annotations

from jaxchat.run.config import NewTokenizer, Pretrained, Train

__all__ = ["NewTokenizer", "Pretrained", "Train"]
