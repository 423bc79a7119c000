"""From pretrained weights to a trained classifier, its predictions and what they cost."""
