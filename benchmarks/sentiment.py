"""Measure the classifier of texts against the library's own pipeline; prints one JSON object.

Run with `python benchmarks/sentiment.py --data DIR`, where DIR holds recorded texts as Parquet files, or without
`--data` on generated headlines. Both read the same texts with the same model on the same processor, alternately, and
their labels are compared text by text. Without `--model` the model is a BERT of the size of FinBERT with random
weights: it costs what FinBERT costs, and its opinions are balanced so that all labels occur.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait burn no processor that another program needs
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import structlog
import torch
import transformers

from trading_pipelines.adapters.scorers.transformers_scorer import TransformersScorer
from trading_pipelines.domain.sentiment.normalise import normalise
from trading_pipelines.settings import ClassifierSettings

LABELS = {0: "positive", 1: "negative", 2: "neutral"}
COLUMNS = ("headline", "title", "short", "text")
WORDS = """
bitcoin ether solana exchange traders funds miners regulators markets price demand supply falls rises surges slides
after before amid while as new report says sees lower higher weekly record inflows outflows court rules lawsuit upgrade
network tokens holders volume support resistance inflation rates week billion million
"""
SHORTEST, LONGEST = 30, 200
"""Characters of a headline."""


def main() -> None:
    """Load, warm up, measure alternately."""
    options = _options()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    texts = _recorded(options.data, options.texts) if options.data else _generated(options.texts)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(_make_model(Path(folder) / "bert-base", texts))
        sys.stdout.write(json.dumps(_measure(model, texts, options), indent=2) + "\n")


def _measure(model: str, texts: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    plain = transformers.pipeline("text-classification", model=model, device=-1)
    scorer = TransformersScorer(ClassifierSettings(model=model))
    expected = [answer["label"] for answer in plain(list(texts))]
    found = [scorer.labels[place] for place in scorer.classify(texts).argmax(axis=1)]
    rounds: dict[str, list[float]] = {"pipeline": [], "pipeline_batched": [], "scorer": []}
    for _ in range(options.repeat):
        rounds["scorer"].append(_seconds(lambda: scorer.classify(texts)))
        rounds["pipeline"].append(_seconds(lambda: plain(list(texts))))
        rounds["pipeline_batched"].append(_seconds(lambda: plain(list(texts), batch_size=options.batch)))
    ratios = [p / s for p, s in zip(rounds["pipeline"], rounds["scorer"], strict=True)]
    batched = [p / s for p, s in zip(rounds["pipeline_batched"], rounds["scorer"], strict=True)]
    return {
        "benchmark": "sentiment",
        "data": "recorded" if options.data else "generated",
        "model": options.model or "BERT base, random weights",
        "texts": len(texts),
        "same_labels": sum(one == other for one, other in zip(expected, found, strict=True)),
        "labels": {label: found.count(label) for label in LABELS.values()},
        "seconds": {name: round(statistics.median(times), 2) for name, times in rounds.items()},
        "texts_per_second": {name: round(len(texts) / statistics.median(times), 1) for name, times in rounds.items()},
        "times_the_pipeline": round(statistics.median(ratios), 2),
        "times_the_pipeline_rounds": [round(ratio, 2) for ratio in ratios],
        "times_the_batched_pipeline": round(statistics.median(batched), 2),
        "threads": options.threads,
        "processors": os.cpu_count(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _recorded(folder: Path, count: int) -> list[str]:
    """Headlines of the recorded texts, each once, in the order of a fixed draw."""
    found: dict[str, None] = {}
    for file in sorted(folder.glob("**/*.parquet")):
        frame = pd.read_parquet(file)
        for column in COLUMNS:
            if column in frame:
                found |= dict.fromkeys(normalise(str(text)) for text in frame[column])
                break
    headlines = [text for text in found if SHORTEST <= len(text) <= LONGEST]
    if len(headlines) < count:
        raise SystemExit(f"{folder}: only {len(headlines)} headlines of {SHORTEST} to {LONGEST} characters")
    return [headlines[place] for place in np.random.default_rng(0).permutation(len(headlines))[:count]]


def _generated(count: int) -> list[str]:
    """Headlines of the length of real ones, about six to twenty-five words."""
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS.split(), random.integers(6, 26))) + f" {n}" for n in range(count)]


def _make_model(folder: Path, texts: Sequence[str]) -> Path:
    """A BERT of FinBERT's size whose labels are balanced over the texts."""
    from tokenizers import BertWordPieceTokenizer

    folder.mkdir()
    pieces = BertWordPieceTokenizer()
    pieces.train_from_iterator(texts, vocab_size=30_522, min_frequency=1, show_progress=False)
    pieces.save_model(str(folder))
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(id2label=LABELS, label2id={label: n for n, label in LABELS.items()})
    ).eval()
    with torch.inference_mode():
        sample = tokenizer(list(texts[:64]), padding=True, return_tensors="pt")
        logits = model(**sample).logits
    with torch.no_grad():
        spread = logits.std(dim=0)
        model.classifier.weight.div_(spread[:, None])
        model.classifier.bias.copy_((model.classifier.bias - logits.mean(dim=0)) / spread)
    model.save_pretrained(folder)
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of recorded texts; without it headlines are generated")
    parser.add_argument("--model", help="folder or cached name of a classifier")
    parser.add_argument("--texts", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="batch size of the batched pipeline, for comparison")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
