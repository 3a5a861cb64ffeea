"""What is kept of a pile of conversations, and in what form.

A step is a frozen dataclass of options whose `apply` is a pure function from a conversation to Kept or Dropped
(step.py); steps.py holds the one list of them, in their order. The two steps against duplicates compare conversations
with each other, so they give keys to group by instead. cores.py runs the list on this machine's cores, beam.py,
unchanged, as an Apache Beam pipeline; clean.py reads folders and writes one.
"""
