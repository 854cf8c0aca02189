"""Costs of training on 1 to 1024 GPUs: the tables of docs/scale.md, computed by cluster_costs.py.

    python benchmarks/scale.py            # print the tables
    python benchmarks/scale.py --write    # write them into docs/scale.md

Nothing is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cluster_costs import (
    ADAMW,
    GRADIENT,
    STATE,
    WEIGHT,
    Cluster,
    Shape,
    activations,
    costs,
    critical_batch_size,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"
GPUS = (1, 8, 64, 1024)
SHAPES = (
    Shape("124M", 124e6, 12, 768, 1024, 50257, 2**19),
    Shape("1.5B", 1.56e9, 48, 1600, 1024, 50257, 2**20),
    Shape("7B", 6.9e9, 32, 4096, 2048, 50257, 2**22),
)


def size(number: float) -> str:
    """Format bytes with a unit."""
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= step:
            return f"{number / step:.3g} {unit}"
    return f"{number:.0f} B"


def seconds(number: float) -> str:
    """Format seconds with a unit."""
    if number >= 48 * 3600:
        return f"{number / 86400:.0f} days"
    for unit, step in (("h", 3600), ("min", 60)):
        if number >= 2 * step:
            return f"{number / step:.3g} {unit}"
    return f"{number:.3g} s" if number >= 1 else f"{number * 1000:.3g} ms"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table with right-aligned numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def memory() -> str:
    """Table of memory by model, independent of the number of GPUs."""
    head = [
        "model",
        "weights",
        "gradients",
        "AdamW",
        "together",
        "checkpoint",
        "activations of a row",
        "recomputed",
    ]
    rows = [
        [
            s.name,
            *(
                size(s.params * b)
                for b in (WEIGHT, GRADIENT, ADAMW, WEIGHT + GRADIENT + ADAMW, STATE)
            ),
            size(activations(s, 1, activation_checkpointing=False)),
            size(activations(s, 1)),
        ]
        for s in SHAPES
    ]
    return table(head, rows)


def growth(shape: Shape) -> str:
    """Table of one model on an increasing number of GPUs."""
    head = [
        "GPUs",
        "rows each",
        "held, DDP",
        "held, FSDP2",
        "computing",
        "sent each",
        "all-reduce",
        "FSDP2's passes",
        "computing, of the time",
    ]
    rows = []
    for c in (costs(shape, gpus) for gpus in GPUS):
        fits = size(c.ddp) if c.ddp <= Cluster().memory else f"{size(c.ddp)}: too much"
        if c.gpus == 1:
            travel = ["-"] * 4
        else:
            travel = [
                size(c.passed),
                seconds(c.all_reduce),
                seconds(c.sharded),
                f"{c.efficiency:.0%}",
            ]
        apart = "-" if c.gpus == 1 else size(c.fsdp)
        rows.append(
            [
                str(c.gpus),
                f"{c.rows:,.0f}" if c.rows >= 1 else f"{c.rows:.1f}",
                fits,
                apart,
                seconds(c.compute),
                *travel,
            ]
        )
    tokens = (
        f"{shape.tokens:,} tokens a step,"
        f" {shape.tokens // shape.context:,} rows of {shape.context:,}"
    )
    return f"**{shape.name}**, {tokens}\n\n{table(head, rows)}"


def failures() -> str:
    """Table of failure rates, checkpoint intervals and their costs."""
    head = [
        "GPUs",
        "a failure every",
        *(f"{s.name}: save every" for s in SHAPES),
        *(f"{s.name}: lost" for s in SHAPES),
    ]
    rows = []
    for gpus in GPUS:
        each = [costs(shape, gpus) for shape in SHAPES]
        rows.append(
            [
                str(gpus),
                seconds(each[0].failure * 3600),
                *(seconds(c.save_every) for c in each),
                *(f"{c.lost:.2%}" for c in each),
            ]
        )
    return table(head, rows)


def batches() -> str:
    """Table of the batch size up to which more GPUs save time."""
    losses = (4.0, 3.0, 2.5, 2.0)
    row = [
        "batch that still pays, tokens",
        *(f"{critical_batch_size(loss) / 1e6:.2g} M" for loss in losses),
    ]
    return table(["loss, nats per token", *map(str, losses)], [row])


TABLES = {
    "memory": memory,
    "growth": lambda: "\n\n".join(growth(shape) for shape in SHAPES),
    "batches": batches,
    "failures": failures,
}


def filled(page: str) -> str:
    """Replace every table of the page between `<!-- name -->` and `<!-- end -->`."""
    for name, make in TABLES.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        page = f"{before}{begin}{make()}\n{rest[rest.index('<!-- end -->') :]}"
    return page


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write them into docs/scale.md")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(make() for make in TABLES.values()))


if __name__ == "__main__":
    main()
