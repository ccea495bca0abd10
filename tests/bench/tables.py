"""Markdown tables of medians."""

from statistics import median

COLUMNS = (
    ("the target's own CPU, microseconds a command", lambda found: found.cpu, "{:.2f}"),
    ("thousands of commands a second", lambda found: found.rate / 1000, "{:.1f}"),
    ("round trip of a pipeline, microseconds: median", lambda found: found.p50, "{:.0f}"),
    ("round trip of a pipeline, microseconds: 99 of 100", lambda found: found.p99, "{:.0f}"),
)


def show(title, heads, lines):
    print(f"**{title}**\n")
    print("| | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for name, cells in lines:
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(flush=True)


def of_rounds(title, columns, roles, results):
    """One table for each figure. In each cell the median, and the median of the ratios to the first role in the same round: the
    machine may be busier in one round than in another."""
    for figure, read, form in COLUMNS:
        lines = []
        for role in roles:
            cells = []
            for column in columns:
                own = [read(found) for found in results[column][role.name]]
                base = [read(found) for found in results[column][roles[0].name]]
                cells.append(f"{form.format(median(own))} ({ratio(own, base)})")
            lines.append((role.name, cells))
        show(f"{title}: {figure}", [column.head for column in columns], lines)


def of_more_connections(pairs, roles, results):
    """The ratio of the second column's CPU to the first's, for each pair."""
    lines = []
    for role in roles:
        cells = []
        for few, many in pairs:
            costs = [[found.cpu for found in results[column][role.name]] for column in (many, few)]
            cells.append(ratio(*costs))
        lines.append((role.name, cells))
    show("CPU of a command, 1,000 connections to 50", [f"P={few.pipeline}" for few, _ in pairs], lines)


def of_cold(found):
    lines = []
    for head, results in found.items():
        through = [result["p50_us"] for result in results]
        direct = [result["database_p50_us"] for result in results]
        cells = [f"{median(through):.0f}", f"{median(direct):.0f}", ratio(through, direct)]
        lines.append((head, cells))
    heads = ["through Weir, median microseconds", "PostgreSQL alone", "ratio"]
    show("MGET of 100 keys that are all loaded, against one prepared statement for the same rows", heads, lines)


def ratio(own, base):
    """Too short a run may have cost no clock tick."""
    ratios = [a / b for a, b in zip(own, base) if b > 0]
    return f"{median(ratios):.2f}" if ratios else "?"
