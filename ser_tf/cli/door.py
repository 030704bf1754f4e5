"""The entry point of the command line. Only the commands that need TensorFlow import it."""

import errno
import os
import sys
import warnings
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TextIO

import tyro

from ser_tf import interruption
from ser_tf.cli.corpora import Audit, Synthesise
from ser_tf.cli.experiments import CrossCorpus, Noise, Report, Sweep, Yardsticks
from ser_tf.cli.models import Models, Pack
from ser_tf.cli.options import TrainingOptions
from ser_tf.cli.preparation import Prepare
from ser_tf.cli.recognise import Describe, Predict
from ser_tf.cli.serving import Export, Push, Serve
from ser_tf.cli.training import Evaluate, Finetune, Pretrain
from ser_tf.cli.weights import ImportVggvox
from ser_tf.config import ONLY_WITH_SCHEDULE, Config, preset
from ser_tf.errors import UserError, printable

DESCRIPTION = (
    "Speech emotion recognition: SE-ResNet-34, GhostVLAD and emotion metric learning. --version prints the version."
)
GOES_ON: dict[type, str] = {
    **dict.fromkeys((Finetune, Evaluate, Sweep, CrossCorpus, Pretrain), "its last finished epoch"),
    **dict.fromkeys((Yardsticks, Noise), "its finished runs"),
    Prepare: "its finished shards",
}
"""Where an interrupted command continues."""


def main() -> None:
    """Run one command; an error that a user can cause ends in one line and status 1."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # names may hold any bytes
    warnings.showwarning = _show_warning
    warnings.filterwarnings("always", module="ser_tf")  # despite PYTHONWARNINGS: these name recordings left out
    command = None
    try:
        if sys.argv[1:] == ["--version"]:
            print(f"ser-tf {metadata.version('ser_tf')}")
            return
        command = _parse(sys.argv[1:])
        command.run()
    except UserError as error:
        sys.exit(f"ser-tf: {error}")
    except KeyboardInterrupt:
        interruption.end(GOES_ON.get(type(command), ""))
    except MemoryError:
        sys.exit("ser-tf: out of memory; give fewer recordings at a time, or lower sizes in the options")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno is None:  # raised by a library, not by the operating system
            raise
        reason = os.strerror(error.errno)
        place = printable(str(error.filename or "writing"))
        remedy = "make room or " * (error.errno in (errno.ENOSPC, errno.EDQUOT)) + "choose another place"
        sys.exit(f"ser-tf: {place}: {reason}; {remedy}")


def _parse(arguments: list[str]) -> Any:
    arguments = _respelled(arguments)
    for name in ("--corpus", "--emotions"):
        times = sum(argument.partition("=")[0] == name for argument in arguments)
        if times > 1:  # only the last would count
            raise UserError(f"{name}: expected all values after one {name}. Received: {name} {times} times")
    config = _preset(arguments)
    corpus: Any = tyro.MISSING
    command = (
        Annotated[Audit, tyro.conf.subcommand("audit")]
        | Annotated[Synthesise, tyro.conf.subcommand("synthesise")]
        | Annotated[Prepare, tyro.conf.subcommand("prepare")]
        | Annotated[Pretrain, tyro.conf.subcommand("pretrain", default=Pretrain(corpus, config=config))]
        | Annotated[ImportVggvox, tyro.conf.subcommand("import-vggvox")]
        | Annotated[Finetune, tyro.conf.subcommand("finetune", default=Finetune(corpus, config=config))]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate", default=Evaluate(corpus, config=config))]
        | Annotated[Yardsticks, tyro.conf.subcommand("yardsticks")]
        | Annotated[Sweep, tyro.conf.subcommand("sweep", default=Sweep(corpus, config=config))]
        | Annotated[
            CrossCorpus, tyro.conf.subcommand("cross-corpus", default=CrossCorpus(corpus, corpus, config=config))
        ]
        | Annotated[Noise, tyro.conf.subcommand("noise")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Predict, tyro.conf.subcommand("predict")]
        | Annotated[Models, tyro.conf.subcommand("models")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Serve, tyro.conf.subcommand("serve")]
        | Annotated[Push, tyro.conf.subcommand("push")]
        | Annotated[Pack, tyro.conf.subcommand("pack")]
        | Annotated[Describe, tyro.conf.subcommand("describe", default=Describe(config=config))]
    )
    parsed = tyro.cli(command, args=arguments, prog="ser-tf", description=DESCRIPTION)
    varies = any(argument.startswith("training.schedule=") for argument in arguments)  # sweep --over
    method = getattr(parsed, "config", None)
    if isinstance(method, Config) and not varies:
        _refuse_without_effect(arguments, method.training.schedule)
    return parsed


def _refuse_without_effect(arguments: list[str], schedule: str) -> None:
    """Refuse a given training parameter that the schedule of the preset does not use."""
    for other, names in ONLY_WITH_SCHEDULE.items():
        for name in names:
            option = f"--training.{name.replace('_', '-')}"
            if other != schedule and any(argument.partition("=")[0] == option for argument in arguments):
                raise UserError(
                    f"{option}: has no effect with the schedule {schedule}; leave it out, or add --training.schedule "
                    f"{other}"
                )


def _respelled(arguments: list[str]) -> list[str]:
    """The arguments with older spellings renewed: `--only 1 2`, and `--folds` for numbers or for a file."""
    respelled = []
    for argument, following in pairwise([*arguments, ""]):
        name, equals, joined = argument.partition("=")
        if name == "--only" or (name == "--folds" and (joined or following).isdecimal()):
            name = "--fold"
        elif name == "--folds":
            name = "--scheme-file"
        respelled.append(name + equals + joined)
    return respelled


def _preset(arguments: list[str]) -> Config:
    """The configuration that the other options change."""
    value = TrainingOptions.preset
    for argument, following in pairwise([*arguments, ""]):
        name, equals, joined = argument.partition("=")
        if name == "--preset":
            value = joined if equals else following
    return Config.load(Path(value)) if Path(value).suffix else preset(value)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print this project's warnings as one line; drop those of libraries, which address developers."""
    if Path(filename).is_relative_to(Path(__file__).parent.parent):
        print(f"ser-tf: {printable(str(message))}", file=sys.stderr)
