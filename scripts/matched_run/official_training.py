#!/usr/bin/env python3
"""Trains the official PyTorch MoEUT (github.com/RobertCsordas/moeut) as a run of ours was trained, and writes its loss of every step.

    official_training.py --official FOLDER --config RUN/config.yaml --samples SAMPLES.npy [--weights MODEL.safetensors] --output ROWS.jsonl

FOLDER holds the official moeut/ and profiles.py. RUN/config.yaml is the resolved configuration that moeut-train writes: model, optimizer,
schedule, clipping and precision are read from it, so nothing is stated twice. SAMPLES.npy comes from moeut-data export-samples.
MODEL.safetensors is the model file of one of our checkpoints; without it the official initialisation is used. A row of ROWS.jsonl
has the keys of our metrics.jsonl: step (from 1), loss (mean cross-entropy in nats), reg_loss, grad_norm (before clipping), lr, tokens_per_s.

The official code runs as it is. Its defects (docs: AttentionMask without masks, decoding with a cache, odd rotary widths, dropped layers, too
few experts after dropout) are outside this run; what would meet one is refused by check_model. The loss is that of its example.py; forward and
loss under autocast, backward outside of it, as PyTorch's documentation asks.
"""

import argparse
import json
import math
import pathlib
import sys
import time

import numpy
import torch
import torch.nn.functional as F
import yaml

# The constructor's arguments of MoEUTLM that our configuration has under the same name.
ARGUMENTS = ("d_model", "n_layers", "n_heads", "ff_n_experts", "att_n_experts", "d_head", "group_size", "ff_k", "att_k",
             "ff_expert_dropout", "att_expert_dropout", "ff_expert_size", "dropout", "entropy_reg", "att_entropy_reg")


def learning_rate(config, step):
    """Our schedule (trainer/lr_schedule.h) at step 0 .. steps - 1."""
    peak, steps = float(config["optimizer"]["lr"]), config["train"]["steps"]
    warmup, floor = config["schedule"]["warmup_steps"], float(config["schedule"]["min_lr_multiplier"])
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))))


def require(condition, message):
    if not condition:
        sys.exit(f"official_training.py: {message}")


def check_model(model):
    """The official code computes something else than the paper, or our configuration cannot be expressed in it."""
    head = model["d_head"] or model["d_model"] // model["n_heads"]
    require(model["rotate_fraction"] == 0.5 and model["rope_base"] == 10000, "the official model has rotate_fraction 0.5 and rope_base 10000 only")
    require(head // 2 % 2 == 0, f"d_head {head}: the official code fails on an odd number of rotated dimensions")
    require(model["n_layers"] % model["group_size"] == 0, "the official code drops layers if n_layers is no multiple of group_size")
    require(not any(model[key] for key in ("dropout", "ff_expert_dropout", "att_expert_dropout")), "dropout draws other numbers in each program")


def check_training(config):
    require(config["train"]["precision"] in ("fp32", "bf16"), "train.precision must be fp32 or bf16 here")
    require(config["optimizer"]["name"] == "adamw" and config["optimizer"]["decay"] == "all", "PyTorch's AdamW decays all parameters")
    require(config["schedule"]["name"] == "cosine", "schedule.name must be cosine here")


def make_model(moeut, section, device):
    check_model(section)
    arguments = {key: section[key] for key in ARGUMENTS}
    arguments["d_head"] = arguments["d_head"] or None
    return moeut.MoEUTLM(section["n_tokens"], **arguments).to(device).train()


def check_profile(profiles, section):
    """The official profile of this name has these very arguments."""
    if section["profile"] == "none":
        return
    official = getattr(profiles, "MoEUT_" + section["profile"])
    other = {key: (section[key], value) for key, value in official.items() if section[key] != value}
    require(not other, f"profile {section['profile']}: ours and the official value differ: {other}")


def load_weights(model, path):
    """Every parameter under its official name, with its shape, and no other."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(path), strict=True)


def make_optimizer(model, section):
    return torch.optim.AdamW(model.parameters(), lr=float(section["lr"]), betas=(float(section["beta1"]), float(section["beta2"])),
                             eps=float(section["eps"]), weight_decay=float(section["weight_decay"]))


def train(model, config, samples, steps, write):
    """Runs the first `steps` steps and calls write(row) after each."""
    device = model.lm_head.weight.device
    batch_size, length = config["train"]["batch_size"], config["train"]["seq_len"]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config["train"]["precision"] == "bf16")
    clip = float(config["optimizer"]["grad_clip"]) or math.inf
    optimizer = make_optimizer(model, config["optimizer"])
    for step in range(steps):
        start = time.perf_counter()
        rows = samples[step * batch_size : (step + 1) * batch_size].astype(numpy.int64)
        ids = torch.from_numpy(rows).to(device)
        lr = learning_rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        with autocast:
            out = model(ids[:, :-1])
            loss = F.cross_entropy(out.outputs.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        (loss + out.reg_loss).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        row = {"step": step + 1, "loss": loss.item(), "reg_loss": out.reg_loss.sum().item(), "grad_norm": norm.item(), "lr": lr}
        if not math.isfinite(row["loss"] + row["grad_norm"]):
            raise FloatingPointError(f"not finite: {row}")
        write({**row, "tokens_per_s": batch_size * length / (time.perf_counter() - start)})


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, type=pathlib.Path)
    parser.add_argument("--config", required=True, type=pathlib.Path)
    parser.add_argument("--samples", required=True, type=pathlib.Path)
    parser.add_argument("--weights", type=pathlib.Path)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, help="only so many steps of the run")
    parser.add_argument("--seed", type=int, default=0, help="of the official initialisation")
    return parser.parse_args()


def import_official(folder):
    require((folder / "moeut/moeut.py").exists(), f"{folder} does not hold the official code (moeut/, profiles.py)")
    sys.path.insert(0, str(folder.resolve()))
    import moeut
    import profiles

    return moeut, profiles


def main():
    arguments = parse_arguments()
    config = yaml.safe_load(arguments.config.read_text())
    check_training(config)
    moeut, profiles = import_official(arguments.official)
    check_profile(profiles, config["model"])
    steps = arguments.steps or config["train"]["steps"]
    samples = numpy.load(arguments.samples, mmap_mode="r")
    expected = (steps * config["train"]["batch_size"], config["train"]["seq_len"] + 1)
    require(samples.shape[0] >= expected[0] and samples.shape[1] == expected[1], f"samples {samples.shape}, the run needs {expected}")

    torch.manual_seed(arguments.seed)
    model = make_model(moeut, config["model"], arguments.device)
    if arguments.weights:
        load_weights(model, arguments.weights)
    with open(arguments.output, "w", encoding="utf-8") as output:

        def write(row):
            print(json.dumps(row), file=output, flush=True)
            if row["step"] in (1, 2) or row["step"] % 50 == 0:
                print(f"official: step {row['step']} of {steps}, loss {row['loss']:.4f}, {row['tokens_per_s']:,.0f} tokens/s", flush=True)

        train(model, config, samples, steps, write)


if __name__ == "__main__":
    main()
