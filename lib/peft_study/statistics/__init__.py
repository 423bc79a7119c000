"""How sure we can be: intervals, paired tests, calibration. Plain arrays in; never imports torch."""
