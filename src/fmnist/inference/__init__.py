"""What an image shows, by an ONNX file: neither TensorFlow nor JAX."""
