"""Small classifiers with random weights, in the folders in which real ones come."""

import json
from collections.abc import Mapping
from pathlib import Path

WORDS = [
    "bitcoin",
    "ether",
    "rises",
    "falls",
    "soars",
    "crashes",
    "as",
    "buyers",
    "sellers",
    "return",
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "on",
    "1",
    "2",
    "3",
    "4",
    "5",
    ",",
    ".",
]


def export(folder: Path) -> None:
    """Put the model of a folder there as ONNX too, where the hub's exports have it."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    names = ["input_ids", "attention_mask"]
    (folder / "onnx").mkdir()
    torch.onnx.export(
        model,
        (torch.ones((2, 8), dtype=torch.long), torch.ones((2, 8), dtype=torch.long)),
        folder / "onnx" / "model.onnx",
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "text", 1: "token"} for name in names},
        dynamo=False,
    )


def save_classifier(folder: Path, labels: Mapping[int, str], *, hidden: int = 32, layers: int = 2) -> Path:
    """Write configuration, weights and vocabulary of a BERT with decided opinions."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(n) for n in range(ord("a"), ord("z") + 1)]
    vocabulary = [*marks, *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(7)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=4 * hidden,
            max_position_embeddings=64,
            id2label=dict(labels),
            label2id={label: n for n, label in labels.items()},
        )
    )
    with torch.no_grad():
        model.classifier.weight.normal_(std=2.0)
        model.bert.pooler.dense.weight.normal_(std=0.5)
    model.save_pretrained(folder)
    return folder
