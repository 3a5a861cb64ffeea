"""Tasks with right answers: lm-evaluation-harness's by name, DCLM's CORE, programs that are run."""
