"""The assembled network without torch: ONNX graphs, and the runner that executes them."""

from gfnet_env.export.onnx import export_int8, export_onnx, export_static

__all__ = ["export_int8", "export_onnx", "export_static"]
