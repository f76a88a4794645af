"""The sections of docs/speed.md about clustering, probes and duplicates of embeddings."""

from typing import Any

from speed_sections import place, table


def probe(found: dict[str, Any]) -> str:
    """A path of L2 values, ours and scikit-learn's."""
    rows = [
        (
            f"{one['rows']:,} x {one['width']}, {one['classes']} classes",
            name,
            f"{times['cpu_seconds']:.1f}",
            f"{one['largest_gap_to_best_objective'][name]:.1e}",
            f"{100 * one['best_accuracy'][name]:.2f}",
        )
        for one in found["results"]
        for name, times in one["times"].items()
    ]
    head = (
        "rows",
        "tool and tolerance",
        "processor time, s",
        "objective above the best, nats",
        "accuracy, %",
    )
    return f"""
{table(head, rows)}
Eight L2 values from strong to weak, each from where the last one ended; {found["threads"]} thread, on a shared machine.

{place(found)}
"""  # noqa: E501


def duplicates(found: dict[str, Any]) -> str:
    """All copies above a threshold, ours and faiss'."""
    rows = [
        (
            f"{one['rows']:,} x {one['width']}",
            name,
            f"{times['cpu_seconds']:.1f}",
            f"{times['peak_mib']:.0f}",
            f"{one['rows_mib']:.0f}",
        )
        for one in found["results"]
        for name, times in one["times"].items()
    ]
    head = (
        "rows",
        "tool",
        "processor time, s",
        "peak of the process, MiB",
        "of these the rows, MiB",
    )
    alike = min(one["same_keeper"] for one in found["results"])
    return f"""
{table(head, rows)}
Cosine of {found["threshold"]} or more, one row in 20 a copy; {found["threads"]} thread, on a shared machine.
{alike:.2%} of the rows have the same keeper in both. faiss' index and our units are a second copy of the rows; time
grows with the square of their number.

{place(found)}
"""  # noqa: E501


def clusters(found: dict[str, Any]) -> str:
    """k-means and assignment, beside scikit-learn and faiss."""
    one = found["results"]
    rows = [
        (
            name,
            f"{one['times_of_kmeans'][name]['cpu_seconds']:.1f}",
            f"{one['objective'][name]:.4f}",
            f"{one['times_of_assigning'][name]['cpu_seconds']:.2f}",
        )
        for name in one["objective"]
    ]
    head = ("tool", "k-means, s of processor time", "objective", "assigning, s of processor time")
    whole = [{"rows": one["rows"]} | one["pauc_cluster"], *one.get("growth", ())]
    growth = [
        (
            f"{each['rows']:,}",
            f"{each['cpu_seconds']:.0f}",
            f"{each['peak_mib']:.0f}",
            f"{each['table_mib']:.0f}",
        )
        for each in whole
    ]
    columns = ("rows", "s of processor time", "peak MiB", "of which the rows are")
    return f"""
{table(head, rows)}
{one["rows"]:,} x {one["width"]} rows, {one["prototypes"]} prototypes, 20 iterations at most; {found["threads"]} thread,
on a shared machine. Ours and faiss assign to the nearest and the second, scikit-learn to the nearest alone.
`pauc cluster` as a whole, with 20 reclusterings:

{table(columns, growth)}
{place(found)}
"""  # noqa: E501
