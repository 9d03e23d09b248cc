#!/usr/bin/env python3
"""Compares the losses of our run with those of official runs on the same samples.

    compare.py OURS.jsonl NAME=OFFICIAL.jsonl [NAME=OFFICIAL.jsonl ...] [--last 100] [--limit 1.005]

Prints the mean loss over each tenth of the run and over the last steps, and our mean over the official one. Exit status 1 if a ratio exceeds
the limit, or if the runs are not comparable: other steps or other learning rates.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys


def read_rows(path):
    rows = [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "loss" in row]


def check_comparable(ours, official, name):
    if [row["step"] for row in ours] != list(range(1, len(ours) + 1)) or len(ours) != len(official):
        sys.exit(f"compare.py: {len(ours)} rows of ours, {len(official)} of {name}: every step of both is needed (log.every: 1)")
    for a, b in zip(ours, official):
        if a["step"] != b["step"] or not math.isclose(a["lr"], b["lr"], rel_tol=1e-12):
            sys.exit(f"compare.py: {name} differs in step or learning rate: {a} and {b}")


def mean(rows):
    return statistics.fmean(row["loss"] for row in rows)


def print_curve(runs):
    count = len(next(iter(runs.values())))
    print("| steps | " + " | ".join(runs) + " |\n|" + " --- |" * (len(runs) + 1))
    bounds = sorted({0, 1, *(count * i // 10 for i in range(1, 11))})
    for first, end in zip(bounds, bounds[1:]):
        print(f"| {first + 1}-{end} | " + " | ".join(f"{mean(rows[first:end]):.4f}" for rows in runs.values()) + " |")


def print_speed(runs):
    for name, rows in runs.items():
        print(f"{name}: median {statistics.median(row['tokens_per_s'] for row in rows):,.0f} tokens/s")


def print_ratio(ours, official, name, limit):
    """Whether ours is good enough. The two see the same text, so the spread of the difference says how sure its mean is."""
    differences = [a["loss"] - b["loss"] for a, b in zip(ours, official)]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    ratio = mean(ours) / mean(official)
    good = ratio <= limit
    print(f"last {len(ours)} steps: ours {mean(ours):.4f}, {name} {mean(official):.4f}, difference {statistics.fmean(differences):+.4f} "
          f"± {error:.4f}, ratio {ratio:.5f} ({'within' if good else 'OVER'} {limit})")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("official", nargs="+", help="NAME=FILE")
    parser.add_argument("--last", type=int, default=100)
    parser.add_argument("--limit", type=float, default=1.005)
    arguments = parser.parse_args()

    runs = {"ours": read_rows(arguments.ours)}
    for pair in arguments.official:
        name, _, path = pair.partition("=")
        runs[name] = read_rows(path)
        check_comparable(runs["ours"], runs[name], name)
    print_curve(runs)
    print_speed(runs)
    last = {name: rows[-arguments.last :] for name, rows in runs.items()}
    good = [print_ratio(last["ours"], rows, name, arguments.limit) for name, rows in last.items() if name != "ours"]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
