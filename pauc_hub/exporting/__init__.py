"""Models as files for other runtimes, ONNX and torch.export, each compared with the model before it
is kept.
"""
