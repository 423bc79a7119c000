"""From pretrained weights to a trained classifier, its predictions and its costs."""
