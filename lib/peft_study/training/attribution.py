"""Which words of a review move a model's verdict, and how far: gradient × input.

The score is the log-odds of a class: of two classes the second (positive), of more the one that the model says, against
all others together. A token's contribution is the gradient of the score with respect to
its word embedding, times that embedding, summed over the embedding's width (the gradient as Simonyan et al. 2013 use
it, the product with the input as Shrikumar et al. 2016 do). Of a linear model the contributions add up to the score,
less its constant; of a deep one they are a first-order picture of it at this very text, and need not add up.

A layer normalisation undoes whatever scales its input, so that of an encoder made of them the plain product is close to
zero and its sign left to chance. As Ali et al. (2022) propose, the standard deviations by which they divide therefore
count as constants. What this is worth is measured in lib/NOTES.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp, softmax

from peft_study.data.tokenization import Window, window

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Attribution:
    """A model's verdict on one text.

    `logits`: (classes,). `contributions` to the `log_odds`: (tokens,), in the same unit, special tokens included.
    """

    window: Window
    logits: np.ndarray
    contributions: np.ndarray

    @property
    def label(self) -> int:
        """The class that the model says."""
        return int(self.logits.argmax())

    @property
    def target(self) -> int:
        """The class whose log-odds are explained."""
        return explained(self.logits)

    @property
    def log_odds(self) -> float:
        """The log-odds of the target against all other classes together."""
        return float(self.logits[self.target] - logsumexp(np.delete(self.logits, self.target)))

    @property
    def confidence(self) -> float:
        """The probability of the class that the model says."""
        return float(softmax(self.logits).max())

    @property
    def words(self) -> list[tuple[int, int, float]]:
        """Start, end and contribution of each word that the model reads, in order: the sum over its pieces."""
        found: dict[int, tuple[int, int, float]] = {}
        for span, word, share in zip(self.window.spans, self.window.words, self.contributions, strict=True):
            if span is not None and word is not None:
                start, _, sum_ = found.get(word, (span[0], 0, 0.0))
                found[word] = start, span[1], sum_ + float(share)
        return list(found.values())


def explain(
    model: "torch.nn.Module", tokenizer: "PreTrainedTokenizerFast", text: str, max_length: int, truncation: str
) -> Attribution:
    """What `model` says of `text`, cut to its window, and what each token contributes to that."""
    read = window(text, tokenizer, max_length, truncation)
    return Attribution(read, *gradient_times_input(model, read.input_ids))


def explained(logits: "np.ndarray | torch.Tensor") -> int:
    """The class whose log-odds are explained: the second of two, of more the one with the largest of its `logits`."""
    return 1 if len(logits) == 2 else int(logits.argmax())


def gradient_times_input(model: "torch.nn.Module", input_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The logits, (classes,), and every token's contribution to the log-odds of the class `explained`, (tokens,).

    The model computes in float32 and evaluation mode; its parameters and their gradients are left as they are.
    """
    import torch

    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())  # a leaf: frozen embeddings have no gradient of their own
        return embedded[-1]

    ids = torch.tensor([list(input_ids)], device=next(model.parameters()).device)
    hooks = [model.get_input_embeddings().register_forward_hook(keep)]  # type: ignore[operator]
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    hooks += [norm.register_forward_hook(_with_constant_spread) for norm in norms]
    try:
        model.eval()
        with torch.enable_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float()
            target = explained(logits)
            score = logits[target] - torch.cat([logits[:target], logits[target + 1 :]]).logsumexp(dim=0)
            (gradient,) = torch.autograd.grad(score, embedded[0])
    finally:
        for hook in hooks:
            hook.remove()
    contributions = (gradient * embedded[0]).sum(dim=-1)[0]
    return logits.detach().cpu().numpy(), contributions.detach().float().cpu().numpy()


def _with_constant_spread(norm: "torch.nn.LayerNorm", inputs: "tuple[torch.Tensor]", output: Any) -> "torch.Tensor":
    """The output of a layer normalisation, through whose standard deviation no gradient passes."""
    (given,) = inputs
    centred = given - given.mean(dim=-1, keepdim=True)
    spread = (given.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).sqrt().detach()
    return centred / spread * norm.weight + norm.bias
