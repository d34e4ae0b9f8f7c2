"""The command `flash`: reads what is asked, and calls what does it."""

import argparse
from pathlib import Path

from deploy.errors import refuse
from jetson.flash.carry_out import carry_out
from jetson.flash.host import Host, this_host
from jetson.flash.job import Action, Request, job_text, prepare
from jetson.flash.usb import USB

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  python -m jetson flash --board jetson-tx2 --module P3310 --dry-run
  python -m jetson flash --board jetson-tx2 --module P3310 --image images/jetson-tx2
  python -m jetson flash --board jetson-tx2 --module P3310 --usb-instance 1-2,1-3 --reuse
  python -m jetson flash --board jetson-tx2 --module P3310 --clone backup.img
  python -m jetson flash --board jetson-tx2 --module P3310 --restore backup.img
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--board", required=True, help="name of a board, or the path of its .yaml file")
    parser.add_argument("--image", type=Path, help="folder that make image made; images/BOARD if left out")
    parser.add_argument("--module", help="the variant: its name or part, or a piece of either")
    parser.add_argument(
        "--usb-instance", metavar="BUS-PORT[,...]", help="where the modules are; each is flashed in turn"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-r", "--reuse", action="store_true", help="do not make system.img again")
    what.add_argument("--clone", type=Path, metavar="FILE", help="read the partition APP into a file")
    what.add_argument("--restore", type=Path, metavar="FILE", help="flash with a clone as the partition APP")
    parser.add_argument("--records", type=Path, default=Path("flash"), help="folder for records and logs")
    parser.add_argument("--dry-run", action="store_true", help="print the exact commands and run nothing")
    parser.add_argument("--force-vm", action="store_true", help="flash from a virtual machine all the same")


def run(arguments: argparse.Namespace, host: Host | None = None, usb: Path = USB) -> int:
    """Put an image on a module in recovery mode with NVIDIA's own scripts, or read its partition APP into a file.

    Args:
        host: the computer, in place of this one; usb: in place of where the kernel shows USB devices.
    """
    host = host or this_host()
    job = prepare(_request(arguments), host, usb, arguments.dry_run)
    if arguments.dry_run:
        print(job_text(job))
        return 0
    carry_out(job, usb, host.uid, lambda line: print(line, flush=True))
    return 0


def _request(arguments: argparse.Namespace) -> Request:
    action: Action = "write"
    if arguments.clone or arguments.restore:
        action = "clone" if arguments.clone else "restore"
    elif arguments.reuse:
        action = "reuse"
    given = arguments.usb_instance
    instances = tuple(part.strip() for part in given.split(",")) if given is not None else ()
    if not all(instances):
        raise refuse(f"--usb-instance {given!r}", "holds an empty name", "give for example 1-2 or 1-2,1-3")
    return Request(
        board=arguments.board,
        image=arguments.image or Path("images") / Path(arguments.board).stem,
        action=action,
        file=arguments.clone or arguments.restore,
        module=arguments.module,
        instances=instances,
        records=arguments.records,
        force_vm=arguments.force_vm,
    )
