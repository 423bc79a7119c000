"""Excerpts of texts: of a long text, the consecutive words that a linear model of words weighs most."""

from collections.abc import Iterable

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from peft_study.data.reviews import Corpus, load_corpus
from peft_study.errors import StudyError
from peft_study.study.variant import Variant
from peft_study.text import each_part

WORDS = 40
_FITTED_ON = 2_000  # texts: enough to find the words that matter, in a second


def corpus_at_hand(variant: Variant) -> Corpus | None:
    """The texts of `variant`; None where they are not on this machine, as with another program's records."""
    try:
        return load_corpus(variant)
    except StudyError:
        return None


def excerpts(corpus: Corpus, ids: Iterable[int], words: int = WORDS) -> dict[int, str]:
    """Of each test text with one of these `ids`, the `words` consecutive words of largest weight, on one line.

    Of a pair, those of both texts. A word weighs its TF-IDF value times its largest coefficient, either sign, in a
    logistic regression fitted on texts of the training split. Where none can be fitted, the text's first words are
    taken.
    """
    texts = corpus.test.set_index("id")["text"]
    vectorizer, weights = TfidfVectorizer(min_df=2, sublinear_tf=True), {}
    fitted_on = corpus.pool.sample(min(_FITTED_ON, len(corpus.pool)), random_state=0)
    try:
        model = LogisticRegression(C=10).fit(vectorizer.fit_transform(fitted_on["text"]), fitted_on["label"])
        strength = np.abs(model.coef_).max(axis=0) * vectorizer.idf_
        weights = dict(zip(vectorizer.get_feature_names_out(), strength, strict=True))
    except ValueError:  # no word occurs twice
        pass
    analyse = vectorizer.build_analyzer()

    def excerpt(text: str) -> str:
        split = text.split()
        weighed = [sum(weights.get(term, 0.0) for term in analyse(word)) for word in split]
        first = int(np.argmax(np.convolve(weighed, np.ones(words), "valid"))) if len(split) > words else 0
        shown = " ".join(split[first : first + words])
        return "… " * (first > 0) + shown + " …" * (first + words < len(split))

    return {one: each_part(excerpt, texts[one]) for one in ids}
