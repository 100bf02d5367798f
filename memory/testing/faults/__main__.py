"""``python -m memory.testing.faults kill | powerloss | diskfull | damage | servers``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

import msgspec

from memory.testing.faults import damage, diskfull, kill, powerloss, servers
from memory.testing.faults.table import Outcome, out
from memory.testing.faults.target import DEFAULT

SERVERS = "SIGKILL, SIGSTOP and lost replies of a server that is started here, under a store on it"


def parser() -> argparse.ArgumentParser:
    """The arguments of all proofs."""
    top = argparse.ArgumentParser(
        prog="python -m memory.testing.faults",
        description="Prove a store under faults. Each command prints counts and exits with 1 on any violation.",
    )
    proofs = top.add_subparsers(dest="proof", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        part = proofs.add_parser(name, help=text, description=text)
        part.add_argument("--seed", type=int, default=1, help="the same seed makes the same choices (default 1)")
        part.add_argument("--store", default=DEFAULT, help=f"module:Class of the store (default {DEFAULT})")
        part.add_argument("--option", action="append", default=[], metavar="NAME=JSON", help="a keyword of the store")
        return part

    one = add("kill", "SIGKILL writing processes at random moments, reopen, compare")
    one.add_argument("--rounds", type=int, default=1_000, help="each kills one to four processes (default 1000)")
    one.add_argument("--longest", type=float, default=0.2, help="seconds of writing before the kill, at most")
    one.add_argument("--fresh", type=int, default=25, help="rounds on one file before the next is made (default 25)")
    one.add_argument("--keep", help="copy the files of a round with violations to this folder")
    one.add_argument("--directory", help="where the files lie (default: the system's temporary folder)")
    two = add("powerloss", "record a workload, cut the power at every prefix of it, reopen, compare")
    two.add_argument("--operations", type=int, default=120, help="operations of the workload (default 120)")
    two.add_argument("--variants", type=int, default=1, help="random images of each kind at each prefix")
    two.add_argument("--every", type=int, default=1, help="open only every n-th prefix (default 1: all)")
    two.add_argument("--mode", action="append", choices=powerloss.MODES, help="only this setting of synchronous")
    three = add("diskfull", "fill the disk, read, delete, make room, compare")
    three.add_argument("--remainders", type=int, default=64, help="points at which the room ends, of each kind")
    three.add_argument("--no-tmpfs", action="store_true", help="only the limit on file size")
    three.add_argument("--inside", help=argparse.SUPPRESS)
    four = add("damage", "flip, zero and cut off at every 64 bytes, read everything, compare")
    four.add_argument("--sample", type=int, help="only so many cases for each file (default: all)")
    four.add_argument(
        "--every",
        type=int,
        default=1,
        help="only every n-th place of each file, n best odd: pages begin at even ones (default 1)",
    )
    four.add_argument("--only", metavar="FILE", help='only this file, e.g. "live memory.db-wal"')
    four.add_argument("--no-control", action="store_true", help="without the store that has to be caught")
    five = proofs.add_parser("servers", help=SERVERS, description=SERVERS)
    five.add_argument(
        "--server", default="redis", help="redis, redis_stack, postgres or postgres_plain (default redis)"
    )
    five.add_argument("--only", action="append", choices=servers.PROOFS, help="only this part")
    five.add_argument("--rounds", type=int, default=50, help="kills (default 50)")
    five.add_argument("--silent", type=float, default=10.0, help="seconds of SIGSTOP (default 10)")
    five.add_argument("--steps", type=int, default=300, help="of each caller while replies are lost (default 300)")
    five.add_argument("--seed", type=int, default=1, help="the same seed makes the same choices (default 1)")
    five.add_argument("--store", default="", help="module:Class in place of what the server's URL means")
    return top


def run(arguments: argparse.Namespace) -> Outcome:
    """One proof."""
    if arguments.proof == "servers":
        return servers.servers(
            servers.Settings(
                server=arguments.server,
                proofs=tuple(arguments.only or servers.PROOFS),
                rounds=arguments.rounds,
                silent=arguments.silent,
                steps=arguments.steps,
                seed=arguments.seed,
                store=arguments.store,
            )
        )
    pairs = (option.partition("=") for option in arguments.option)
    options = {name: msgspec.json.decode(value) for name, _, value in pairs}
    shared = {"seed": arguments.seed, "store": arguments.store, "options": options}
    if arguments.proof == "kill":
        return kill.kill(
            kill.Settings(
                rounds=arguments.rounds,
                longest=arguments.longest,
                fresh=arguments.fresh,
                keep=arguments.keep,
                directory=arguments.directory,
                **shared,
            )
        )
    if arguments.proof == "powerloss":
        return powerloss.powerloss(
            powerloss.Settings(
                operations=arguments.operations,
                variants=arguments.variants,
                every=arguments.every,
                modes=tuple(arguments.mode or powerloss.MODES),
                **shared,
            )
        )
    if arguments.proof == "diskfull":
        return diskfull.diskfull(
            diskfull.Settings(remainders=arguments.remainders, tmpfs=not arguments.no_tmpfs, **shared)
        )
    return damage.damage(
        damage.Settings(
            sample=arguments.sample,
            every=arguments.every,
            only=arguments.only,
            control=not arguments.no_control,
            **shared,
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a proof and print its table: 0, or 1 when something was violated."""
    chosen = parser().parse_args(arguments)
    if getattr(chosen, "inside", None):
        outcome = diskfull.diskfull(msgspec.json.decode(chosen.inside, type=diskfull.Settings))
        out(msgspec.json.encode(outcome).decode())
        return 0
    outcome = run(chosen)
    outcome.repeat = shlex.join(["python", "-m", "memory.testing.faults", *(arguments or sys.argv[1:])])
    out(outcome.table())
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
