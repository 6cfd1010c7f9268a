"""Classifies images with an ONNX file: needs neither TensorFlow nor JAX."""
