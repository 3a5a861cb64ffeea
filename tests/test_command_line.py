"""The command line answers every mistake with one sentence and exit status 2, and every success with what was made."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from jaxchat.__main__ import VERBS, main

MESSAGES = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好！"}]},
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*MESSAGES, {"messages": []}]))
    return path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that `arguments` are refused with."""
    capsys.readouterr()
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1 and shown.err.startswith("jaxchat"), shown.err
    return shown.err.strip()


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        for name, verb in VERBS.items():
            assert f"jaxchat {name} {verb.usage}" in shown


def test_a_group_lists_its_own_verbs(capsys: pytest.CaptureFixture[str]):
    assert main(["data"]) == 0
    shown = re.findall(r"^  jaxchat (\w+)", capsys.readouterr().out, re.MULTILINE)
    assert shown and set(shown) == {"data"}


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_explains_itself_and_each_of_its_options(name: str, capsys: pytest.CaptureFixture[str]):
    assert VERBS[name].__doc__.partition("\n")[0].endswith(".")
    with pytest.raises(SystemExit) as exit:
        main([*name.split(), "--help"])
    assert not exit.value.code
    shown = capsys.readouterr().out
    assert f"usage: jaxchat {name}" in shown and "--json" in shown
    argument = r"^ +(--[\w.-]+(?: \S+)?|[A-Z]+(?:\.py)?(?: \.\.\.)?)"
    unexplained = re.findall(argument + r"\s+\((?:default|required|repeatable)", shown, re.MULTILINE)
    assert unexplained == []


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"jaxchat \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_loads_nothing_that_is_slow_to_load():
    """Half a second is what this buys; a clock would measure what else the machine does."""
    code = "import sys, jaxchat.__main__ as m; m.main(['--help']); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = set(shown.splitlines()[-1].split())
    assert "jaxchat.errors" in loaded
    assert not loaded & {"jax", "numpy", "flax", "orbax", "tensorflow", "transformers", "rich", "tokenizers"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("chta", "no verb is called chta; did you mean jaxchat chat?"),
        ("data imprt messages", "no verb is called data imprt; did you mean jaxchat data import?"),
        ("quux", "no verb is called quux; jaxchat --help lists them"),
        ("data import", "missing FORMAT and --out DIR"),
        ("data import messages", "missing --out DIR"),
        ("data import mesages x --out y", "no format is called mesages; did you mean messages?"),
        ("data import messages x --uot y", "there is no --uot; did you mean --out?"),
        ("data import messages x --quux y", "there is no --quux; --help lists the options"),
        ("data import messages x --out", "--out needs a value"),
        ("data import messages missing.jsonl --out y", "missing.jsonl: no such file"),
        ("data import chitchat --min-turns two --out y", "--min-turns takes INT, not two"),
        ("data import chitchat --min_turns=two --out y", "--min-turns takes INT, not two"),
        (
            "data import chitchat --join newlin --out y",
            "--join is one of newline, space, not newlin; did you mean newline?",
        ),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(capsys, *arguments.split())
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_of_any_width_and_colour_gets_the_same_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "missing FORMAT and --out DIR" in refusal(capsys, "data", "import")
    assert os.environ["COLUMNS"] == "40"


CONFIG = """
from dataclasses import replace
from jaxchat.data.config import Corpus, DataConfig
from jaxchat.models.presets import tiny
from jaxchat.run import NewTokenizer, Train

def config():
    model = replace(tiny(), vocab_size=512)
    return Train(model=model, tokenizer=NewTokenizer(), data=DataConfig(batch=8, seq_len=64), steps=2)
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A config's file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("tiny_run.py").write_text(CONFIG)
    return "tiny_run.py"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--optim.peek-lr 1e-3", "there is no --optim.peek-lr; did you mean --optim.peak-lr?"),
        ("--model.layrs 3", "there is no --model.layrs; did you mean --model.layers?"),
        ("--layers 3", "there is no --layers; did you mean --model.layers?"),
        ("--steps many", "--steps takes INT or None, not many"),
        ("--compute float16", "--compute is one of float32, bfloat16, not float16; did you mean bfloat16?"),
        ("--attention splish", "--attention is one of auto, dot, splash, cudnn, not splish; did you mean splash?"),
        ("--attention splash", "splash attention runs on TPUs and these devices are of the kind 'cpu'"),
        ("--data.batch 63 --mesh.data 8", "batch 63 does not divide"),
        ("--mesh.context 3", "rows of 64 tokens do not divide over context=3; set --data.seq-len 66"),
        ("--model.heads 3", "model.heads 3 is not a multiple of model.kv_heads"),
        ("--mesh.data 1000", "needs 1000 devices"),
        ("--tokenizer nowhere", "nowhere: no such tokenizer"),
        ("--sources nowhere", "nowhere: no such file or folder"),
    ],
)
def test_a_field_that_cannot_be_is_refused_before_anything_is_written(
    arguments: str, sentence: str, config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JAXCHAT_CACHE", "cache")
    assert sentence in refusal(capsys, "train", config, *arguments.split())
    assert not Path("runs").exists()


def test_the_fields_of_a_config_are_its_flags(config: str, capsys: pytest.CaptureFixture[str]):
    """The names that scripts rely on."""
    with pytest.raises(SystemExit) as exit:
        main(["train", config, "--help"])
    assert not exit.value.code
    shown = capsys.readouterr().out
    flags = "steps epochs seed accumulate data.batch data.seq-len optim.peak-lr mesh.data mesh.fsdp mesh.tensor"
    for flag in f"{flags} checkpoint.every model.layers model.width model.vocab-size run sources".split():
        assert re.search(rf"^ +--{re.escape(flag)} ", shown, re.MULTILINE), flag


def test_a_config_that_cannot_be_run_is_refused(config: str, capsys: pytest.CaptureFixture[str]):
    Path(config).write_text(CONFIG.replace("steps=2", "stepz=2"))
    sentence = refusal(capsys, "train", config)
    assert sentence == "jaxchat: tiny_run.py, line 9: Train has no field stepz; did you mean steps?"
    assert "nowhere.py: no such config file" in refusal(capsys, "train", "nowhere.py")


def test_what_was_made_is_the_last_line(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert main(["data", "import", "messages", str(corpus), "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].startswith(f"2 conversations in {out}")
    stats = json.loads((out / "stats.json").read_text())
    assert (stats["rows_in"], stats["rows_used"], stats["rows_rejected"], stats["rows_dropped"]) == (3, 2, 1, 0)


def test_json_goes_to_a_file_or_alone_to_standard_output(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    verb = ["data", "import", "messages", str(corpus)]
    assert main([*verb, "--out", str(tmp_path / "a"), "--json", str(tmp_path / "a.json")]) == 0
    capsys.readouterr()
    assert main([*verb, "--out", str(tmp_path / "b"), "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((tmp_path / "a.json").read_text())
    assert json.loads(shown.out)["conversations"] == 2
    assert "2 conversations in" in shown.err


def test_an_option_of_a_format_reaches_its_reader(tmp_path: Path):
    pytest.importorskip("chitchat_dataset")
    counts = []
    for turns in ("1", "2"):
        out = tmp_path / turns
        assert main(["data", "import", "chitchat", "--min-turns", turns, "--out", str(out)]) == 0
        counts.append(json.loads((out / "stats.json").read_text())["conversations"])
    assert counts[1] < counts[0]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left on the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "secret.json"), "secret.json: Permission denied"),
        (MemoryError(), "out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nlong story"), "out of memory"),
    ],
)
def test_a_limit_of_the_machine_is_one_sentence(
    error: Exception, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fail(self: object) -> None:
        raise error

    monkeypatch.setattr(VERBS["data import"], "run", fail)
    assert sentence in refusal(capsys, "data", "import", "messages", "x", "--out", "y")


def test_a_fault_of_the_program_is_not_passed_off_as_bad_input(monkeypatch: pytest.MonkeyPatch):
    def fail(self: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(VERBS["data import"], "run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["data", "import", "messages", "x", "--out", "y"])


def test_a_reader_that_went_away_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "jaxchat", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def _until_read(pipe: int) -> None:
    waiting = bytearray(4)
    while True:
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)
        if not int.from_bytes(waiting, sys.byteorder):
            break
        time.sleep(0.05)
    time.sleep(0.5)  # until it waits for more


def test_an_interrupt_is_quiet_and_leaves_nothing(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    out = tmp_path / "out"
    verb = [
        sys.executable,
        "-m",
        "jaxchat",
        "data",
        "import",
        "messages",
        str(tmp_path / "pipe.jsonl"),
        "--out",
        str(out),
    ]
    # Where the tests are a shell's background job, SIGINT is ignored, and what they start inherits that.
    process = subprocess.Popen(
        verb,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with open(tmp_path / "pipe.jsonl", "w") as pipe:  # opens once the verb reads
        pipe.write(json.dumps(MESSAGES[0]) + "\n")
        pipe.flush()
        _until_read(pipe.fileno())
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == "" and "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.jsonl"]
