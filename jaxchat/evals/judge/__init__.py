"""Answers to open questions, judged by a model: one by one, and two side by side (MT-bench, Zheng et al. 2023)."""
