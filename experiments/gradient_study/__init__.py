"""Bias and variance of gradient estimators of d E[f(x)] / d log omega, beside the gradient by enumeration."""
